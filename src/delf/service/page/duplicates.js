// Photos that are there more than once, group by group: which file is kept, and moving the others aside and back.

import { ask, thumbnail, whyNot } from "./api.js";
import { $, announce, arrowKeys, h, pictured } from "./dom.js";
import { themeButton } from "./theme-button.js";
import { bytes, counted, folder, sentence, taken } from "./words.js";

const KINDS = { copy: "exact copies", near: "nearly the same picture" };
const state = { groups: [], next: null, into: null, moved: [], at: null, busy: false };

async function load(offset = 0, limit = 40) {
  const page = await ask(`duplicates?offset=${offset}&limit=${limit}`);
  state.groups = offset ? [...state.groups, ...page.groups] : page.groups;
  Object.assign(state, { next: page.next, into: page.into });
  $("collection").replaceChildren(h("b", {}, page.folder), h("span", {}, ` ${counted(page.total, "group")}`));
  const aside = page.into === null ? "Start it with --move FOLDER to move files aside here." : `What you move aside goes to ${page.into}: ${page.moved ? counted(page.moved, "file") : "nothing"} so far.`;
  $("about").textContent = `${counted(page.spare, "file")} to spare, ${bytes(page.bytes)}. The best file of each group comes first and is kept, unless you choose another one. Nothing is deleted. ${aside}`;
  $("left").hidden = !page.left_out.length;
  $("left").querySelector("summary").textContent = `${counted(page.left_out.length, "file")} left out`;
  $("left").querySelector("ul").replaceChildren(...page.left_out.map((line) => h("li", {}, line)));
  draw();
}

function draw() {
  $("view").replaceChildren(state.groups.length ? h("ul", { class: "sets" }, state.groups.map(drawnGroup))
    : h("p", { class: "nothing" }, "The collection has no photo more than once."));
  $("more").hidden = state.next === null;
  $("undo").hidden = state.into === null;
  $("undo").disabled = !state.moved.length;
}

function drawnGroup(group) {
  const moved = group.files.some((file) => file.moved);
  const still = group.files.slice(1).filter((file) => !file.moved).length;
  const name = `${counted(group.files.length, "file")}, ${KINDS[group.kind]}`;
  const button = (label, run) => h("button", { type: "button", class: "button small", "aria-label": `${label}: group ${group.number}`, onclick: () => run(group) }, label);
  return h("li", {},
    h("div", { class: "set-head" }, h("h2", {}, name, h("span", { class: "quiet" }, ` · ${bytes(group.bytes)} to spare`)),
      state.into !== null && h("div", {}, still > 0 && button(`Move ${still === 1 ? "the other" : `${still} others`} aside`, move), moved && button("Move back", back))),
    h("ul", { class: "tiles" }, group.files.map((file, place) => drawnFile(group, file, place, moved))));
}

function drawnFile(group, file, place, moved) {
  const name = file.file.split(/[\\/]/).pop();
  const word = file.moved ? "moved aside" : place === 0 ? "kept" : "";
  const facts = [`${file.width} × ${file.height}, ${bytes(file.bytes)}`, taken(file.captured_at)].filter(Boolean);
  return h("li", { class: `tile${file.moved ? " out" : ""}${place === 0 ? " kept" : ""}` },
    h("button", { type: "button", class: "open", data: { key: `${group.number} ${file.file}` }, "aria-pressed": String(place === 0), title: file.file,
      "aria-label": `Keep ${name}, ${facts.join(", ")}${word && `, ${word}`}`, onclick: () => (moved ? tell("Move the group back first, then choose another file.") : keep(group, place)) },
    h("span", { class: "frame" }, pictured({ src: thumbnail(file), alt: "", loading: "lazy", decoding: "async" }, whyNot)),
    h("span", { class: "tile-facts" }, h("b", {}, name), h("span", { class: "where" }, folder({ image: file.file })), facts.map((fact) => h("span", {}, fact)), h("span", { class: place === 0 ? "keep-word" : "" }, word || "\u00a0"))));
}

// --- changes, one at a time

async function change(path, json, said) {
  if (state.busy) return null;
  state.busy = true;
  try {
    const told = await ask(path, { json, as: said ? "json" : "nothing" });
    if (said) tell(said(told));
    if (told?.left.length) complain(told.left.join(". "));
    await load(0, Math.max(40, Math.min(500, state.groups.length)));
    [...document.querySelectorAll(".open")].find((one) => one.dataset.key === state.at)?.focus();
    return told;
  } catch (error) {
    complain(error.message);
    return null;
  } finally {
    state.busy = false;
  }
}

const keep = (group, place) => place && change("keeps", { group: group.number, keep: place });

async function move(group) {
  const told = await change("moves", { group: group.number }, ({ files }) => `${counted(files, "file")} moved aside. u moves back.`);
  if (told?.files) state.moved.push(group.number);
  $("undo").disabled = !state.moved.length;
}

async function back(group) {
  state.moved = state.moved.filter((number) => number !== group.number);
  await change("moves/back", { group: group.number }, ({ files }) => `${counted(files, "file")} moved back.`);
}

const undo = () => (state.moved.length ? back({ number: state.moved.at(-1) }) : tell("Nothing was moved on this page."));
const tell = announce;

function complain(text) {
  $("notice").hidden = false;
  $("notice").querySelector("p").textContent = sentence(text);
}

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  const here = event.target.closest?.(".open")?.dataset.key ?? state.at;
  const group = state.groups.find((one) => one.number === parseInt(here, 10));
  const run = { m: () => group && state.into !== null && move(group), b: () => group && state.into !== null && back(group), u: undo, "?": () => $("keys").showModal() }[event.key];
  if (!run) return;
  event.preventDefault();
  run();
}

themeButton();
document.addEventListener("keydown", shortcut);
$("show-keys").addEventListener("click", () => $("keys").showModal());
$("undo").addEventListener("click", undo);
$("notice-close").addEventListener("click", () => { $("notice").hidden = true; });
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
$("more").addEventListener("click", () => load(state.next).catch((error) => complain(error.message)));
$("view").addEventListener("focusin", (event) => { state.at = event.target.dataset.key ?? state.at; });
arrowKeys($("view"), ".open");
load().then(() => document.querySelector(".open")?.focus({ preventScroll: true }), (error) => complain(error.message));
