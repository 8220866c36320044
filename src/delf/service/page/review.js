// Groups of a data set, and what somebody decides about them. Every decision is a line of decisions.csv.

import { ask, picture } from "./api.js";
import { $, announce, arrowKeys, h } from "./dom.js";
import { placesMap } from "./map.js";
import { decisionLine, doubtCard, groupTile, photoTile, sayDecision } from "./review-tiles.js";
import { Stage } from "./stage.js";
import { themeButton } from "./theme-button.js";
import { counted, percent, sentence } from "./words.js";

const state = {
  view: "groups", number: null, // what is looked at: groups, group, doubts, decisions
  items: [], next: null, group: null, decisions: [], // as the service has told
  chosen: new Set(), at: null, // keys of items: chosen ones, in this order, and the one in focus
  opened: null, // the pair that is looked at
  round: 0, // of asking, so that an answer that comes too late is dropped
  busy: false, // while a decision is on its way
};
let stage = null;

const keyOf = (item) => String(item.number ?? item.key ?? item.id);
const itemAt = (key) => state.items.find((item) => keyOf(item) === key);
const current = () => (itemAt(state.at) ? [itemAt(state.at)] : []);
const meant = () => (state.chosen.size ? [...state.chosen].map(itemAt).filter(Boolean) : current());

// --- decisions

/** Each as [action, first, second], one after the other; a sentence says what came of them. */
async function decide(lines, said) {
  if (state.busy) return;
  state.busy = true;
  try {
    for (const [action, first, second = ""] of lines) {
      await ask("decisions", { json: { action, first: String(first), second: String(second) } });
    }
    state.chosen.clear();
    tell(`${said} Takes effect in the next build; u undoes it.`);
  } catch (error) {
    complain(error);
  }
  state.busy = false;
  await again();
}

async function takeBack(decision) {
  if (!decision) return tell("There is no decision to undo.");
  if (state.busy) return null;
  state.busy = true;
  try {
    await ask(`decisions/${decision.line}?tag=${decision.tag}`, { method: "DELETE", as: "nothing" });
    tell(`Taken back: ${sayDecision(decision)}.`);
  } catch (error) {
    complain(error);
  }
  state.busy = false;
  return again();
}

const called = (groups) => (groups.length === 1 ? `group ${groups[0].label}` : counted(groups.length, "group"));

const ACTIONS = {
  merge: { key: "m", label: "Merge", views: ["groups", "doubts"], run: merge },
  split: { key: "s", label: "Keep apart", views: ["group", "doubts"], run: split },
  rename: { key: "r", label: "Rename", views: ["groups", "group"], run: rename },
  landmark: { key: "l", label: "Landmark", views: ["groups", "group"], run: () => mark("landmark", "a landmark") },
  none: { key: "n", label: "No landmark", views: ["groups", "group"], run: () => mark("no-landmark", "no landmark") },
  remove: { key: "x", label: "Throw out", views: ["groups", "group"], run: remove },
};

const mergePair = ({ first, second }) => decide([["merge", first.key, second.key]], "The two are merged.");
const splitPair = ({ first, second }) => decide([["split", first.key, second.key]], "The two are kept apart.");

function merge() {
  if (state.view === "doubts") {
    const [doubt] = current();
    return doubt ? mergePair(doubt) : tell("Go to a pair first.");
  }
  const groups = meant();
  if (groups.length < 2) return tell("Choose two groups or more to merge, with the space bar or the round buttons.");
  return decide(groups.slice(1).map((group) => ["merge", groups[0].number, group.number]),
    `${groups.map((group) => group.label).join(", ")} are merged.`);
}

function split() {
  if (state.view === "doubts") {
    const [doubt] = current();
    return doubt ? splitPair(doubt) : tell("Go to a pair first.");
  }
  const first = state.items[0];
  const others = meant().filter((photo) => photo.key !== first.key);
  if (!others.length) return tell("Choose another photo than the first one, by which the group is known.");
  return decide(others.map((photo) => ["split", first.key, photo.key]), `${counted(others.length, "photo")} kept apart from the first.`);
}

function mark(action, words) {
  const groups = groupsMeant();
  if (!groups.length) return tell("Go to a group first.");
  return decide(groups.map((group) => [action, group.number]), `${groups.length === 1 ? `Group ${groups[0].label} is` : `${counted(groups.length, "group")} are`} ${words}.`);
}

function remove() {
  const items = meant();
  if (!items.length) return tell(state.view === "group" ? "Go to a photo first." : "Go to a group first.");
  const what = state.view === "group" ? counted(items.length, "photo") : called(items);
  return decide(items.map((item) => ["remove", keyOf(item)]), `Thrown out: ${what}.`);
}

function rename() {
  const [group] = state.view === "group" ? [state.group] : current();
  if (!group) return tell("Go to a group first.");
  $("renaming-title").textContent = `Rename group ${group.label}`;
  $("name").value = group.name;
  $("renaming").dataset.number = group.number;
  $("renaming").showModal();
  $("name").select();
}

const groupsMeant = () => (state.view === "group" ? [state.group].filter(Boolean) : meant());

// --- what is seen

async function show() {
  const round = ++state.round;
  const [, view, number] = /^#(groups|group|doubts|decisions)?=?(\d*)/.exec(location.hash) ?? [];
  Object.assign(state, { view: view ?? "groups", number, at: null, items: [], next: null, group: null });
  state.chosen.clear();
  tell("");
  document.querySelectorAll(".tabs a").forEach((tab) => {
    const here = tab.hash === `#${state.view === "group" ? "groups" : state.view}`;
    tab.toggleAttribute("aria-current", here);
    if (here) tab.setAttribute("aria-current", "page");
  });
  $("find-label").hidden = state.view !== "groups";
  await load(round);
  if (round === state.round) focusFirst();
}

function focusFirst() {
  if (document.activeElement === $("find")) return;
  const [before] = tilesOf(state.last);
  (before ?? document.querySelector("#view .open") ?? $("title")).focus({ preventScroll: !before });
}

/** Asks for what is looked at, from an offset on; what was chosen and in focus stays so. */
async function load(round, offset = 0, limit = 60) {
  const paths = { groups: `groups?offset=${offset}&limit=${limit}&find=${encodeURIComponent($("find").value)}`,
    group: `groups/${state.number}?offset=${offset}&limit=${limit}`, doubts: `bridges?offset=${offset}&limit=${limit}` };
  try {
    const [about, { decisions }, page] = await Promise.all([ask("review"), ask("decisions"), paths[state.view] ? ask(paths[state.view]) : null]);
    if (round !== state.round) return;
    state.decisions = decisions;
    const found = page?.groups ?? page?.photos ?? page?.bridges?.map((one) => ({ ...one, id: `${one.first.key} ${one.second.key}` })) ?? [];
    state.items = offset ? [...state.items, ...found] : found;
    state.next = page?.next ?? null;
    state.group = page?.group ?? null;
    heading(about, page);
    draw();
  } catch (error) {
    complain(error);
  }
}

/** The same again, as it is now. */
async function again() {
  const round = ++state.round;
  const focused = document.activeElement?.classList.contains("open") || document.activeElement === document.body;
  await load(round, 0, Math.max(60, Math.min(500, state.items.length)));
  if (focused) tilesOf(state.at)[0]?.focus();
}

function heading(about, page) {
  $("collection").replaceChildren(h("b", {}, about.folder), h("span", {}, ` ${counted(about.grouped, "photo")} of ${about.photos.toLocaleString("en")} in groups`));
  for (const [name, count] of [["groups", about.groups], ["doubts", about.bridges], ["decisions", state.decisions.length]]) {
    $(`tab-${name}`).querySelector("span").textContent = count.toLocaleString("en");
  }
  const waiting = state.decisions.filter((one) => one.pending).length;
  $("pending").hidden = !waiting;
  $("pending").replaceChildren(`${counted(waiting, "decision")} ${waiting === 1 ? "waits" : "wait"} for the next build: `, h("code", {}, about.command));
  const words = {
    groups: ["Groups", page && page.total < about.groups ? `${counted(page.total, "group")} of ${about.groups} found.` : "Photos that show the same thing. Those with most photos come first."],
    group: [state.group && (state.group.name ? state.group.label : `Group ${state.group.label}`), state.group && `${counted(state.group.photos, "photo")}, the one that stands for the group first. Open one to compare it with that. ${landmarkWords(state.group)} `],
    doubts: ["Doubtful pairs", "Pairs that would join two groups, and do not. Open one to see the points that the two photos share."],
    decisions: ["Decisions", "The lines of decisions.csv, in its order. The file can be edited by hand as well."],
  }[state.view];
  $("title").textContent = words[0] ?? "";
  $("about").replaceChildren(words[1] ?? "", state.view === "group" ? h("a", { href: "#groups", class: "back" }, "All groups") : "");
  document.title = `${words[0]} · ${about.folder} · delf`;
}

const landmarkWords = (group) => ({ yes: "A landmark.", no: "No landmark." })[group.landmark] ?? "";

function draw() {
  const make = { groups: groupTile, group: photoTile, doubts: doubtCard, decisions: decisionLine }[state.view];
  const items = state.view === "decisions" ? state.decisions : state.items;
  const nothing = { groups: "No group.", group: "No photo.", doubts: "No pair nearly joined two groups.", decisions: "Nothing has been decided yet." }[state.view];
  const list = h("ul", { class: { doubts: "doubts", decisions: "lines-of" }[state.view] ?? "tiles" },
    items.map((item) => make(item, { decisions: state.decisions, chosen: state.chosen.has(keyOf(item)), key: keyOf(item),
      choose: () => toggle(keyOf(item)), open: () => open(item), takeBack: () => takeBack(item) })));
  $("view").replaceChildren(items.length ? list : h("p", { class: "nothing" }, nothing));
  const map = state.view === "groups" && mapOf(items);
  if (map) $("view").append(map);
  $("more").hidden = state.next === null;
  const actions = Object.values(ACTIONS).filter((one) => one.views.includes(state.view));
  $("buttons").replaceChildren(...actions.map((one) => h("button", { type: "button", class: "button small", onclick: one.run }, one.label, h("kbd", { "aria-hidden": "true" }, one.key))));
  $("actions").hidden = !actions.length && !$("chosen").textContent;
  $("undo").disabled = !state.decisions.length;
}

/** Where the groups that are listed are, or null where none has a position. */
function mapOf(groups) {
  const placed = groups.map((group) => ({ key: String(group.number), rank: group.number, gps: group.gps }));
  return placesMap(placed, (group) => `#group=${group.key}`, new Map(groups.map((group) => [String(group.number), group.name || `Group ${group.label}`])), "h2");
}

const tilesOf = (key) => [...document.querySelectorAll("#view .open")].filter((one) => one.dataset.key === key);

function toggle(key) {
  if (!state.chosen.delete(key)) state.chosen.add(key);
  for (const link of tilesOf(key)) { // of exact copies there are several
    link.closest(".tile").classList.toggle("chosen", state.chosen.has(key));
    link.closest(".tile").querySelector(".choose")?.setAttribute("aria-pressed", state.chosen.has(key));
  }
  tell(state.chosen.size ? `${counted(state.chosen.size, state.view === "group" ? "photo" : "group")} chosen.` : "");
}

function tell(words) {
  $("chosen").textContent = words;
  $("actions").hidden = !words && !$("buttons").children.length;
  announce(words);
}

function complain(error) {
  $("notice").hidden = false;
  $("notice").querySelector("p").textContent = error.message ? sentence(error.message) : "Something went wrong.";
}

// --- two photos beside each other: a doubtful pair, or a photo of a group and the one that stands for it

async function open(item) {
  const [first, second] = state.items;
  const pair = state.view === "doubts" ? item : { first, second: item === first ? second ?? first : item };
  state.at = keyOf(item);
  state.opened = pair;
  stage ??= new Stage($("stage"));
  const [a, b] = [pair.first, pair.second];
  $("detail-merge").hidden = state.view !== "doubts";
  $("detail-split").hidden = a.key === b.key;
  $("detail-title").textContent = `${nameOf(a)} and ${nameOf(b)}`;
  $("detail-facts").replaceChildren();
  $("detail-note").textContent = "Comparing the points of the two photos…";
  $("detail").showModal();
  $("detail-title").focus();
  try {
    const found = await ask(`evidence?first=${a.key}&second=${b.key}`);
    if (!$("detail").open || state.opened !== pair) return;
    const shown = [a, b].map((photo, i) => ({ url: picture(photo), alt: nameOf(photo), size: found.sizes[i] }));
    stage.show(shown[0], shown[1], found, null, true);
    [a, b].forEach((photo, i) => { [stage.query, stage.result][i].caption.textContent = photo.label ? `Group ${photo.label}` : "In no group"; });
    $("detail-facts").replaceChildren(...[`${percent(found.probability)} the same thing`, counted(found.inliers, "matched point")].map((word) => h("span", {}, word)));
    $("detail-note").textContent = "";
  } catch (error) {
    $("detail-note").textContent = error.message;
  }
}

const nameOf = (photo) => photo.file.split(/[\\/]/).pop();

function fromDetail(run) {
  $("detail").close();
  run(state.opened);
}

// --- keys and the rest of the page

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest?.("input")) return;
  const detail = $("detail").open;
  if (!detail && document.querySelector("dialog[open]")) return;
  const action = Object.values(ACTIONS).find((one) => one.key === event.key && one.views.includes(state.view));
  const others = { u: () => takeBack(state.decisions.at(-1)), "?": () => $("keys").showModal(), "/": () => $("find").focus(),
    1: () => go("groups"), 2: () => go("doubts"), 3: () => go("decisions"), Escape: () => state.view === "group" && go("groups") };
  const pairs = { m: !$("detail-merge").hidden && mergePair, s: !$("detail-split").hidden && splitPair };
  const run = detail ? pairs[event.key] && (() => fromDetail(pairs[event.key])) : action?.run ?? others[event.key];
  if (!run) return;
  event.preventDefault();
  run();
}

function go(view) {
  state.last = state.view === "group" ? String(state.number) : null;
  location.hash = view;
}

function begin() {
  themeButton();
  document.addEventListener("keydown", shortcut);
  window.addEventListener("hashchange", show);
  window.addEventListener("focus", () => again()); // somebody may have edited the file, or built
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  $("undo").addEventListener("click", () => takeBack(state.decisions.at(-1)));
  $("notice-close").addEventListener("click", () => { $("notice").hidden = true; });
  $("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
  $("more").addEventListener("click", () => load(state.round, state.next));
  $("view").addEventListener("focusin", (event) => { state.at = event.target.closest(".tile")?.querySelector(".open").dataset.key ?? state.at; });
  $("view").addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.classList.contains("open")) return;
    event.preventDefault();
    if (state.view === "doubts") event.target.click();
    else toggle(event.target.dataset.key);
  });
  arrowKeys($("view"), ".open");
  let typing = 0;
  $("find").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => load(++state.round), 150);
  });
  $("detail-close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("close", () => tilesOf(state.at)[0]?.focus());
  $("detail-merge").addEventListener("click", () => fromDetail(mergePair));
  $("detail-split").addEventListener("click", () => fromDetail(splitPair));
  $("rename-cancel").addEventListener("click", () => $("renaming").close());
  $("rename-form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("renaming").close();
    const name = $("name").value.trim();
    if (name) decide([["rename", $("renaming").dataset.number, name]], `Renamed to ${name}.`);
  });
  show();
}

begin();
