// The page: what the address says is shown, and what is done goes into the address.

import { Adding } from "./adding.js";
import { ask, isCancelled } from "./api.js";
import { BoxPhoto } from "./box.js";
import { Detail } from "./detail.js";
import { $, announce, arrowKeys, h } from "./dom.js";
import { dropping } from "./dropping.js";
import { offer } from "./files.js";
import { background, pointPlaces } from "./map.js";
import { Queries, refusal } from "./query.js";
import { answered, countdown, headline, inOrder, numbered, stopped, waiting } from "./results.js";
import { shareLink } from "./sharing.js";
import { Start } from "./start.js";
import { fromAddress, hasQuery, queryState, toAddress } from "./state.js";
import { themeButton } from "./theme-button.js";
import { bytes, counted, names } from "./words.js";

const TOP = 24;
const KEPT = 30; // answers, so that going back is immediate

let about = null; // what the service says of the collection
let begun; // called once that is known
const ready = new Promise((resolve) => { begun = resolve; });
let state = fromAddress();
let keeping = null; // until the place is kept
let work = null; // the search that runs
let drawn = ""; // the search whose columns are on the screen
const answers = new Map(); // by search
const queries = new Queries();

const start = new Start(() => state, go, keepAddress, fail);
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
    const results = shownResults(shownAnswer());
    const next = results[results.findIndex((result) => result.key === state.open) + by];
    if (next) go({ ...state, open: next.key }, { replace: true });
  },
  form: () => queries.form(state),
});

// --- what is shown

function go(next, { replace = false } = {}) {
  if (!replace) keepPlace();
  const opened = next.open !== null && (replace ? history.state?.opened : state.open === null);
  history[replace ? "replaceState" : "pushState"]({ opened }, "", toAddress(next));
  state = next;
  render();
}

/** The address remembers where in the photos one was. The browser does that for answers, but not for what is drawn as one goes. */
function keepPlace() {
  clearTimeout(keeping);
  if (about && !hasQuery(state)) history.replaceState({ ...history.state, place: start.place() }, "");
}

/** The address says what is seen by now; nothing else changes. */
function keepAddress(next) {
  state = next;
  history.replaceState(history.state, "", toAddress(state));
}

function render(place = null) {
  clearTimeout(keeping);
  $("notice").hidden = true;
  const searching = hasQuery(state);
  $("start").hidden = searching;
  $("search").hidden = $("another").hidden = !searching;
  $(searching ? "filter-search" : "filter-start").append($("filter"));
  $("where").value = state.where ?? "";
  $("where-none").hidden = state.where === null;
  history.scrollRestoration = searching ? "auto" : "manual";
  if (!searching) {
    work?.abort();
    drawn = "";
    detail.close();
    document.title = `${about?.name ?? "delf"}: search by photo`;
    start.show(place);
    return;
  }
  search();
}

const methods = () => [state.method ?? about.methods[0].name, state.compare].filter(Boolean);
const searchKey = (method) => JSON.stringify([state.id, state.shared, state.upload, state.box, state.where, method, state.top]);
const shownAnswer = () => answers.get(searchKey(methods()[state.column ?? 0]));
const shownResults = (answer) => (answer ? inOrder(answer, state.open) : []);

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
    if (mine !== work || isCancelled(error)) return;
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
    const column = answered(all[i], { links: links(i), other, box: state.box, images: about.images - (state.id ? 1 : 0), alone: about.images > 0 });
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
  const results = shownResults(answer);
  const place = results.findIndex((result) => result.key === state.open);
  if (place < 0) {
    const last = detail.close();
    if (last) document.querySelector(`.card[data-key="${last.key}"] .open`)?.focus();
    return;
  }
  const result = results[place];
  const { url, name, key } = queries.shown(state);
  detail.show({ query: { url, alt: `Query: ${name}`, key }, result, answer, called: names(answer.results).get(result.key),
    box: state.box, search: toAddress(queryState(state, { id: result.key })), ends: [place === 0, place === results.length - 1] });
}

// --- the query

async function showQuery(signal) {
  await queries.know(state, signal);
  signal.throwIfAborted(); // something else is searched with by now
  const { url, name, title, size, why } = queries.shown(state);
  photo.show(url, `Query: ${name}`, size, why);
  photo.set(state.box);
  draw(false);
  $("whole").hidden = !state.box;
  adding.offer(state.id, () => removed(state.id));
  $("query-name").textContent = name;
  $("query-name").title = title;
  $("share").hidden = Boolean(state.upload) && about.share_seconds === null;
  $("share-said").textContent = "";
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
  const form = queries.form(state);
  for (const [name, value] of Object.entries({ method, top: state.top ?? TOP, points: true })) form.set(name, value);
  if (state.where) form.set("where", state.where);
  const answer = numbered(await ask("search", { form, signal, onwait: (wait) => countdown(wait, say, signal) }));
  answers.set(key, answer);
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  if (state.upload) {
    queries.uploads.get(state.upload).size = answer.size;
    photo.size = answer.size;
    photo.fit();
    photo.paint();
  }
  return answer;
}

async function take(file) {
  if (!file) return;
  await ready; // a photo may be given before the service has answered
  const wrong = refusal(file, about.limits);
  if (wrong) fail(wrong);
  else go(queryState(state, { upload: queries.add(file) }));
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
  $("share").addEventListener("click", () => shareLink(queries, state, (shared) => go({ ...state, upload: null, shared }, { replace: true })));
  $("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ ...state, where: $("where").value.trim() || null, open: null, top: null });
  });
  addEventListener("scroll", () => {
    clearTimeout(keeping);
    keeping = setTimeout(keepPlace, 250);
  }, { passive: true });
  $("where-none").addEventListener("click", () => go({ ...state, where: null, open: null, top: null }));
  $("show-keys").addEventListener("click", () => $("keys").showModal());
  $("notice-close").addEventListener("click", () => { $("notice").hidden = true; });
  $("notice-again").addEventListener("click", () => location.reload());
  document.addEventListener("click", route);
  document.addEventListener("keydown", shortcut);
  document.addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])][0]));
  pointPlaces();
  addEventListener("popstate", () => {
    state = fromAddress();
    if (about) render(history.state?.place);
  });
  arrowKeys($("answers"), ".open");
  dropping((given) => (given.length > 1 && !$("add").hidden ? adding.add(given) : take(given[0])));
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

function removed(id) {
  queries.known.delete(id);
  announce("The photo was removed.");
  go({ ...fromAddress(""), where: state.where }, { replace: true });
}

/** The collection may have changed: looks again, and forgets answers where it has. */
async function recount() {
  const before = about.images;
  about = await ask("collection");
  count();
  if (about.images === before) return;
  answers.clear();
  await start.refresh();
}

function count() {
  const name = about.listed ? h("a", { href: "../", title: "All collections" }, about.name) : about.name;
  $("collection").replaceChildren(h("b", null, name), " ", h("span", null, counted(about.images, "photo")));
  $("empty").hidden = about.images > 0;
  $("full").hidden = about.images === 0;
  $("empty-still").hidden = adding.shown !== false;
  $("empty-here").hidden = $("add").hidden;
  $("empty-soon").hidden = !adding.shown;
}

function introduce() {
  offer(about);
  background(about.tiles);
  $("limits").textContent = `JPEG, PNG, WebP or HEIC, up to ${bytes(about.limits.upload_bytes)}. It stays between you and this service.`;
  const option = ({ name }) => h("option", { value: name }, name);
  $("method").replaceChildren(...about.methods.map(option));
  $("compare").replaceChildren(h("option", { value: "" }, "nothing"), ...about.methods.map(option));
  $("empty-command").textContent = `delf index FOLDER -o ${about.name}`;
}

async function begin() {
  themeButton();
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
  render(history.state?.place);
  begun();
  adding.watch();
}

begin();
