// The choice between light, dark, and what the system has; it is kept in localStorage. theme.js applies it.

/** @param {HTMLSelectElement} select */
export function themeChoice(select) {
  try {
    select.value = localStorage.getItem("theme") ?? "";
  } catch {
    select.disabled = true; // nothing can be kept here
  }
  select.addEventListener("change", () => {
    if (select.value) localStorage.setItem("theme", select.value);
    else localStorage.removeItem("theme");
    dispatchEvent(new Event("theme"));
  });
}

// The language: a plain cookie, and the page anew.
/** @param {HTMLSelectElement | null} select */
export function languageChoice(select) {
  if (select === null) return;
  select.addEventListener("change", () => {
    const isFramed = window !== window.top; // within a page of another site, which strict cookies do not reach
    const manner = isFramed ? "samesite=none; secure; partitioned" : "samesite=strict";
    document.cookie = `language=${encodeURIComponent(select.value)}; path=/; max-age=31536000; ${manner}`;
    location.reload();
  });
}
