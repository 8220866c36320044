// The button for light or dark colours; theme.js says which they are.

import { $ } from "./dom.js";

export function themeButton() {
  const show = () => {
    const dark = window.delfTheme.current() === "dark";
    const words = dark ? "Light colours" : "Dark colours";
    $("theme").querySelector("use").setAttribute("href", dark ? "#i-sun" : "#i-moon");
    $("theme").setAttribute("aria-label", words);
    $("theme").title = words;
  };
  show();
  document.addEventListener("theme", show);
  $("theme").addEventListener("click", () => window.delfTheme.toggle());
}
