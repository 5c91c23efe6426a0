// Pages for learning platforms: the form with the chosen link is sent to the platform at once.

/** @type {HTMLFormElement | null} */ (document.getElementById("answer"))?.submit();
