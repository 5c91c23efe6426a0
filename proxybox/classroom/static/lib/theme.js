// The choice between light, dark, and the system's theme; it is stored in localStorage. theme.js applies it.

/** @param {HTMLSelectElement} select */
export function themeChoice(select) {
  try {
    select.value = localStorage.getItem("theme") ?? "";
  } catch {
    select.disabled = true; // there is no storage
  }
  select.addEventListener("change", () => {
    if (select.value) localStorage.setItem("theme", select.value);
    else localStorage.removeItem("theme");
    dispatchEvent(new Event("theme"));
  });
}

// The language: stored in a cookie; then the page is loaded again.
/** @param {HTMLSelectElement | null} select */
export function languageChoice(select) {
  if (select === null) return;
  select.addEventListener("change", () => {
    const isFramed = window !== window.top; // in a page of another site, where strict cookies are not sent
    const manner = isFramed ? "samesite=none; secure; partitioned" : "samesite=strict";
    document.cookie = `language=${encodeURIComponent(select.value)}; path=/; max-age=31536000; ${manner}`;
    location.reload();
  });
}
