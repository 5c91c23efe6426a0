// Sets light or dark before anything is drawn, as chosen (localStorage) or as the system's setting. The choice:
// lib/theme.js.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // no storage: the system's theme
    }
    document.documentElement.dataset.theme =
      chosen === "light" || chosen === "dark" ? chosen : dark.matches ? "dark" : "light";
  };
  dark.addEventListener("change", set);
  addEventListener("storage", set);
  addEventListener("theme", set);
  set();
})();
