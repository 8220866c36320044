// The file of a photo: opened, downloaded, its path copied, shown in its folder.

import { ask, mayWrite, original, picture } from "./api.js";
import { announce, h, icon } from "./dom.js";
import { addresses } from "./words.js";

const REDUCED = /[\\/]previews[\\/]..[\\/]preview-[0-9a-f]{64}\.jpg$/; // of a photo that was added from memory

let offered = { originals: false, local: false }; // what the service does with files

/** about: what the service says of the collection. */
export function offer(about) {
  const asksToken = about.writable; // then only who has the token may have folders shown
  offered = { originals: about.originals, local: about.local && (!asksToken || mayWrite()) };
}

/** A button with a menu of what can be done with the file of a photo. called: its name, in words. */
export function fileButton(image, called) {
  const menu = h("div", { popover: "auto", class: "file-menu" });
  const button = h("button", { type: "button", class: "button plain square small", "aria-label": `File of ${called}`, title: "File" }, icon("more"));
  button.popoverTargetElement = menu;
  menu.addEventListener("beforetoggle", ({ newState }) => {
    if (newState === "open") menu.replaceChildren(...choices(image, menu));
  });
  menu.addEventListener("toggle", ({ newState }) => {
    if (newState !== "open") return;
    place(menu, button);
    menu.querySelector("a").focus();
  });
  return h("span", { class: "file" }, button, menu);
}

function choices(image, menu) {
  const words = h("p", { class: "quiet", role: "status" });
  const say = (text) => {
    words.textContent = text;
    announce(text);
  };
  const there = addresses(image).map(([what, href]) => h("a", { class: "button plain small", href, target: "_blank", rel: "noopener noreferrer" }, `Open the ${what} in its archive`));
  const [href, name] = offered.originals ? [original(image), image.name] : [picture(image, 2048), `${image.name.replace(/\.\w+$/, "")}.jpg`];
  const reduced = REDUCED.test(image.file);
  const kind = reduced ? "the reduced copy" : offered.originals ? "the original" : "a picture";
  if (reduced) {
    return [
      h("a", { class: "button plain small", href, target: "_blank", rel: "noopener" }, `Open ${kind}`),
      h("a", { class: "button plain small", href, download: `${image.key.slice(0, 16)}.jpg` }, `Download ${kind}`), ...there, words];
  }
  return [
    h("p", { class: "path" }, image.file),
    h("a", { class: "button plain small", href, target: "_blank", rel: "noopener" }, `Open ${kind}`),
    h("a", { class: "button plain small", href, download: name }, `Download ${kind}`),
    h("button", { type: "button", class: "button plain small", onclick: async () => say(await copied(image.file, menu) ? "The path is copied." : "The browser copies nothing here: select the path above.") }, "Copy the path"),
    offered.local && h("button", { type: "button", class: "button plain small", onclick: () => show(image, say) }, "Show in its folder"),
    words,
  ].filter(Boolean);
}

async function show(image, say) {
  try {
    await ask(`images/${image.key}/folder`, { method: "POST", as: "nothing" });
    say("The folder is opened on this computer.");
  } catch (error) {
    say(error.message);
  }
}

/** Copies a text; whether that went well. Where the browser has no clipboard for pages without TLS, it is selected. */
export async function copied(text, within = document.body) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { class: "unseen", "aria-hidden": "true" }, text);
    within.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** Below its button, or above it where there is no room, and on the screen in any case. */
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const top = at.bottom + height + 8 < innerHeight ? at.bottom + 4 : Math.max(8, at.top - height - 4);
  menu.style.setProperty("--left", `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`);
  menu.style.setProperty("--top", `${top}px`);
}
