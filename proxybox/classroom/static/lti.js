// Pages for learning platforms: what was chosen goes back to the platform by itself.

/** @type {HTMLFormElement | null} */ (document.getElementById("answer"))?.submit();
