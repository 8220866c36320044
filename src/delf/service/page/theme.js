// Light or dark, before anything is drawn. What the reader chose is kept; without a choice the page follows the system.
(() => {
  const KEY = "delf-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = (theme) => {
    try { theme ? localStorage.setItem(KEY, theme) : localStorage.removeItem(KEY); } catch { /* private window */ }
  };
  const current = () => chosen() ?? (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.dataset.theme = current();
    document.dispatchEvent(new Event("theme"));
  };
  window.delfTheme = {
    current,
    toggle() {
      const next = current() === "dark" ? "light" : "dark";
      keep(next === (system.matches ? "dark" : "light") ? null : next);
      show();
    },
  };
  system.addEventListener("change", show);
  show();
})();
