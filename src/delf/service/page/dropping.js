// Photos that are dropped on the page.

import { $ } from "./dom.js";

/** ondrop(files): photos were dropped. */
export function dropping(ondrop) {
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (files(event)) $("dropping").hidden = false; });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("dropping").hidden = true; });
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("dropping").hidden = true;
    ondrop([...event.dataTransfer.files]);
  });
}
