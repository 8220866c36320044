// The page: what the address says is shown, and what is done goes into the address.

import { Adding } from "./adding.js";
import { ServiceError, ask, isCancelled, picture, whyNot } from "./api.js";
import { BoxPhoto } from "./box.js";
import { Detail } from "./detail.js";
import { $, announce, arrowKeys, h } from "./dom.js";
import { Gallery } from "./gallery.js";
import { answered, groups, headline, stopped, waiting } from "./results.js";
import { fromAddress, hasQuery, queryState, toAddress } from "./state.js";
import { bytes, copies, counted, names } from "./words.js";

const TOP = 24;
const KEPT = 30; // answers, so that going back is immediate

let about = null; // what the service says of the collection
let begun; // called once that is known
const ready = new Promise((resolve) => { begun = resolve; });
let state = fromAddress();
let work = null; // the search that runs
let drawn = ""; // the search whose columns are on the screen
const uploads = new Map(); // photos that were given to this page, until it is closed
const answers = new Map(); // by search
const known = new Map(); // photos of the collection, by key

const gallery = new Gallery((id) => toAddress(queryState(state, { id })), fail);
const adding = new Adding(recount, fail);
const photo = new BoxPhoto($("query-photo"), (box) => {
  draw(false);
  go({ ...state, box, open: null, column: null });
});
const detail = new Detail({
  close: () => {
    if (state.open === null) return;
    if (history.state?.opened) history.back();
    else go({ ...state, open: null, column: null }, { replace: true });
  },
  step: (by) => {
    const results = inOrder(shownAnswer());
    const next = results[results.findIndex((result) => result.key === state.open) + by];
    if (next) go({ ...state, open: next.key }, { replace: true });
  },
  form: () => queryForm(),
});

// --- what is shown

function go(next, { replace = false } = {}) {
  const opened = next.open !== null && (replace ? history.state?.opened : state.open === null);
  history[replace ? "replaceState" : "pushState"]({ opened }, "", toAddress(next));
  state = next;
  render();
}

function render() {
  $("notice").hidden = true;
  const searching = hasQuery(state);
  $("start").hidden = searching;
  $("search").hidden = $("another").hidden = !searching;
  $(searching ? "filter-search" : "filter-start").append($("filter"));
  $("where").value = state.where ?? "";
  $("where-none").hidden = state.where === null;
  if (!searching) {
    work?.abort();
    drawn = "";
    detail.close();
    document.title = `${about?.name ?? "delf"}: search by photo`;
    gallery.show(state.where);
    return;
  }
  search();
}

const methods = () => [state.method ?? about.methods[0].name, state.compare].filter(Boolean);
const searchKey = (method) => JSON.stringify([state.id, state.upload, state.box, state.where, method, state.top]);
const shownAnswer = () => answers.get(searchKey(methods()[state.column ?? 0]));
const inOrder = (answer) => (answer ? groups(answer).flat() : []);

async function search() {
  const key = JSON.stringify(methods().map(searchKey));
  if (key === drawn) {
    open();
    return;
  }
  work?.abort();
  const mine = new AbortController();
  work = mine;
  drawn = key;
  try {
    await showQuery(mine.signal);
  } catch (error) {
    if (isCancelled(error)) return;
    drawn = "";
    leaveQuery(error);
    return;
  }
  const columns = methods().map((method) => startColumn(method, mine));
  $("answers").classList.toggle("two", columns.length > 1);
  $("answers").style.minHeight = `${$("answers").offsetHeight}px`; // so that nothing jumps while the answer is awaited
  $("answers").replaceChildren($("answers").firstElementChild, ...columns.map(({ column }) => column));
  for (const [i, { method, say }] of columns.entries()) {
    try {
      await answerOf(method, mine.signal, say);
    } catch (error) {
      if (mine !== work) return;
      if (state.upload && error.code === "image") { // one sentence, however many columns there are
        drawn = "";
        leaveQuery(error);
        return;
      }
      const text = isCancelled(error) ? "The search was cancelled." : error.message;
      replaceColumn(i, stopped(method, text, again));
      announce(text);
      continue;
    }
    if (mine !== work) return;
    drawAnswers(i + 1);
  }
  if (work === mine) work = null;
  $("answers").style.minHeight = "";
  open();
}

function again() {
  drawn = "";
  search();
}

function startColumn(method, mine) {
  return { method, ...waiting(method, about.images, () => mine.abort()) };
}

/** Columns that have their answer are drawn, again too: each says how it differs from the other. */
function drawAnswers(count) {
  const all = methods().map((method) => answers.get(searchKey(method)));
  for (let i = 0; i < count; i += 1) {
    if (!all[i]) continue;
    const other = all.length > 1 ? all[1 - i] ?? null : null;
    const column = answered(all[i], { links: links(i), other, box: state.box, images: about.images });
    replaceColumn(i, column);
  }
  if (count !== all.length || !all[0]) return;
  const words = headline(all[0]);
  document.title = `${words}: ${about.name}`;
  announce(`${words}.`);
  if (document.activeElement === document.body) $("answers").querySelector(".banner")?.focus({ preventScroll: true });
}

function replaceColumn(i, column) {
  $("answers").children[i + 1]?.replaceWith(column);
}

function links(column) {
  return {
    open: (result) => toAddress({ ...state, open: result.key, column: column || null }),
    search: (result) => toAddress(queryState(state, { id: result.key })),
    more: (answer) => {
      const top = state.top ?? TOP;
      const all = answer.results.length < top || top >= about.limits.top;
      return all ? null : toAddress({ ...state, open: null, top: Math.min(about.limits.top, 2 * top) });
    },
  };
}

function open() {
  const answer = state.open === null ? null : shownAnswer();
  const results = inOrder(answer);
  const place = results.findIndex((result) => result.key === state.open);
  if (place < 0) {
    const last = detail.close();
    if (last) document.querySelector(`.card[data-key="${last.key}"] .open`)?.focus();
    return;
  }
  const result = results[place];
  detail.show({ query: queryPicture(), result, answer, called: names(answer.results).get(result.key),
    box: state.box, search: toAddress(queryState(state, { id: result.key })), ends: [place === 0, place === results.length - 1] });
}

// --- the query

function queryForm() {
  const form = new FormData();
  if (state.id !== null) form.set("id", state.id);
  else form.set("image", uploads.get(state.upload).file);
  if (state.box) form.set("box", state.box.join());
  return form;
}

function queryPicture() {
  if (state.id !== null) return { url: picture(known.get(state.id)), alt: `Query: ${known.get(state.id).name}`, key: `id ${state.id}` };
  const upload = uploads.get(state.upload);
  return { url: upload.url, alt: `Query: ${upload.file.name}`, key: `upload ${state.upload}` };
}

async function showQuery(signal) {
  if (state.id !== null) {
    if (!known.has(state.id)) known.set(state.id, await ask(`images/${state.id}`, { signal }));
  } else if (!uploads.has(state.upload)) {
    throw new ServiceError("That photo was held by this page only, and is gone with it. Choose it again, please.");
  }
  const shown = queryPicture();
  const image = state.id === null ? null : known.get(state.id);
  photo.show(shown.url, shown.alt, image?.size ?? uploads.get(state.upload).size, image && whyNot);
  photo.set(state.box);
  draw(false);
  $("whole").hidden = !state.box;
  sureToRemove(false);
  $("query-name").textContent = image?.name ?? uploads.get(state.upload).file.name;
  $("query-name").title = image ? [image.image, copies(image)].filter(Boolean).join(", ") : "";
  $("method").value = methods()[0];
  $("compare").value = state.compare ?? "";
  for (const option of $("compare").options) option.disabled = option.value === methods()[0];
  $("method-about").textContent = about.methods.find(({ name }) => name === methods()[0])?.about ?? "";
}

function leaveQuery(error) {
  go({ ...fromAddress(""), where: state.where }, { replace: true });
  fail(error);
}

async function answerOf(method, signal, say) {
  const key = searchKey(method);
  if (answers.has(key)) return answers.get(key);
  const form = queryForm();
  for (const [name, value] of Object.entries({ method, top: state.top ?? TOP, points: true })) form.set(name, value);
  if (state.where) form.set("where", state.where);
  const answer = await ask("search", { form, signal, onwait: (wait) => countdown(wait, say, signal) });
  answers.set(key, answer);
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  if (state.upload) {
    uploads.get(state.upload).size = answer.size;
    photo.size = answer.size;
    photo.fit();
    photo.paint();
  }
  return answer;
}

/** Says that the service is busy, second by second. */
function countdown(wait, say, signal) {
  announce(`The service is busy. Trying again in ${counted(wait, "second")}.`);
  for (let left = wait; left >= 0; left -= 1) {
    setTimeout(() => signal.aborted || say(left ? `The service is busy. Trying again in ${left} s.` : null), 1000 * (wait - left));
  }
}

async function take(file) {
  if (!file) return;
  await ready; // a photo may be given before the service has answered
  if (file.type && !file.type.startsWith("image/")) {
    fail(new ServiceError(`The file ${file.name} is not a photo. JPEG, PNG, WebP, HEIC, TIFF, GIF and BMP are read`));
    return;
  }
  if (file.size > about.limits.upload_bytes) {
    fail(new ServiceError(`The file ${file.name} has ${bytes(file.size)}, and the service takes ${bytes(about.limits.upload_bytes)} at most. Make it smaller first`));
    return;
  }
  const upload = Date.now().toString(36) + uploads.size;
  uploads.set(upload, { file, url: URL.createObjectURL(file), size: null });
  go(queryState(state, { upload }));
}

function fail(error) {
  if (isCancelled(error)) return;
  $("notice").hidden = false;
  $("notice").firstElementChild.textContent = error.message;
  $("notice-again").hidden = about !== null;
}

function draw(on) {
  photo.drawing(on);
  $("part").setAttribute("aria-pressed", on);
  $("part-hint").textContent = on ? "Draw a box on the photo." : matchMedia("(hover: hover)").matches && !state.box ? "Drag on the photo to search for a part of it." : "";
}

/** A box for the keyboard. */
function beginBox() {
  photo.begin();
  if (photo.box) $("part-hint").textContent = "Arrows move it, Shift and arrows resize it, Enter searches, Esc leaves it.";
}

// --- what is done

function listen() {
  for (const id of ["pick", "another"]) $(id).addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    take($("file").files[0]);
    $("file").value = "";
  });
  $("drop").addEventListener("click", (event) => event.target.closest("button") || $("file").click());
  $("method").addEventListener("change", () => go({ ...state, method: chosen("method", about.methods[0].name), open: null,
    compare: state.compare === $("method").value ? null : state.compare }));
  $("compare").addEventListener("change", () => go({ ...state, compare: chosen("compare", ""), open: null }));
  $("part").addEventListener("click", (event) => {
    if (event.detail === 0) beginBox(); // by the keyboard
    else draw($("part").getAttribute("aria-pressed") !== "true");
  });
  $("whole").addEventListener("click", () => go({ ...state, box: null, open: null }));
  $("remove").addEventListener("click", removeQuery);
  $("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ ...state, where: $("where").value.trim() || null, open: null, top: null });
  });
  $("where-none").addEventListener("click", () => go({ ...state, where: null, open: null, top: null }));
  $("theme").addEventListener("click", () => window.delfTheme.toggle());
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  $("notice-close").addEventListener("click", () => { $("notice").hidden = true; });
  $("notice-again").addEventListener("click", () => location.reload());
  document.addEventListener("theme", showTheme);
  document.addEventListener("click", route);
  document.addEventListener("keydown", shortcut);
  document.addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])][0]));
  document.addEventListener("mouseover", pointPlace);
  addEventListener("popstate", () => {
    state = fromAddress();
    if (about) render();
  });
  arrowKeys($("answers"), ".open");
  dropping();
}

const chosen = (id, usual) => ($(id).value === usual ? null : $(id).value);

/** Links into the page change what is shown without loading it again; with Ctrl and the like they are plain links. */
function route(event) {
  const link = event.target.closest("a[data-route]");
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const next = fromAddress(link.search);
  const fresh = next.id !== state.id || next.upload !== state.upload;
  go(next);
  if (fresh) scrollTo({ top: 0 });
}

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("select, input") || detail.open || $("keys").open) return;
  if (event.key === "Escape") work?.abort();
  else if (event.key === "u") $("file").click();
  else if (event.key === "b" && hasQuery(state)) beginBox();
  else if (event.key === "s") event.target.closest?.(".card")?.querySelector(".again").click();
  else if (event.key === "?") $("keys").showModal();
  else return;
  event.preventDefault();
}

/** A card and its place on the map stand out together. */
function pointPlace(event) {
  const id = event.target.closest?.("[data-place]")?.dataset.place ?? event.target.closest?.(".card")?.dataset.key;
  for (const place of document.querySelectorAll("[data-place]")) place.classList.toggle("near", place.dataset.place === id);
}

function dropping() {
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (files(event)) $("dropping").hidden = false; });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("dropping").hidden = true; });
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("dropping").hidden = true;
    const given = [...event.dataTransfer.files];
    if (given.length > 1 && !$("add").hidden) adding.add(given);
    else take(given[0]);
  });
}

/** One click asks, and another one within some seconds does it. */
function sureToRemove(asked) {
  clearTimeout($("remove").timer);
  $("remove").hidden = state.id === null || $("add").hidden;
  $("remove").dataset.asked = asked ? "yes" : "";
  $("remove").textContent = asked ? "Really remove it?" : "Remove";
  $("remove").title = "Take this photo out of the collection. Its file stays where it is, unless it was added on this page, and is found again when its folder is indexed the next time";
  if (asked) $("remove").timer = setTimeout(() => sureToRemove(false), 5000);
}

async function removeQuery() {
  if (!$("remove").dataset.asked) {
    sureToRemove(true);
    return;
  }
  const { id } = state;
  if (!await adding.remove(id)) return;
  known.delete(id);
  announce("The photo was removed.");
  go({ ...fromAddress(""), where: state.where }, { replace: true });
}

function showTheme() {
  const dark = window.delfTheme.current() === "dark";
  $("theme").querySelector("use").setAttribute("href", dark ? "#i-sun" : "#i-moon");
  $("theme").setAttribute("aria-label", dark ? "Light colours" : "Dark colours");
  $("theme").title = dark ? "Light colours" : "Dark colours";
}

/** The collection may have changed: looks again, and forgets answers where it has. */
async function recount() {
  const before = about.images;
  about = await ask("collection");
  count();
  if (about.images === before) return;
  answers.clear();
  if (!hasQuery(state)) await gallery.refresh();
  else gallery.reset();
}

function count() {
  $("collection").replaceChildren(h("b", null, about.name), " ", h("span", null, counted(about.images, "photo")));
  $("empty").hidden = about.images > 0;
  $("full").hidden = about.images === 0;
  const soon = !$("work").hidden && !$("work-bar").hidden;
  $("empty-still").hidden = soon;
  $("empty-soon").hidden = !soon;
}

function introduce() {
  $("limits").textContent = `JPEG, PNG, WebP or HEIC, up to ${bytes(about.limits.upload_bytes)}. It stays between you and this service.`;
  const option = ({ name }) => h("option", { value: name }, name);
  $("method").replaceChildren(...about.methods.map(option));
  $("compare").replaceChildren(h("option", { value: "" }, "nothing"), ...about.methods.map(option));
  $("empty-command").textContent = `delf index FOLDER -o ${about.name}`;
}

async function begin() {
  showTheme();
  listen();
  try {
    about = await ask("collection");
  } catch (error) {
    fail(error);
    return;
  }
  introduce();
  adding.allow(about);
  count();
  render();
  begun();
  adding.watch();
}

begin();
