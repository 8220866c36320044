// The photos of the collection, to begin with: any number of them, of which those on the screen are drawn.

import { ask, isCancelled, thumbnail, whyNot } from "./api.js";
import { $, h, pictured } from "./dom.js";
import { Rows, readable } from "./rows.js";
import { condition } from "./state.js";
import { copies, counted, nameOf, names } from "./words.js";

const AT_ONCE = 100; // photos that one request lists
const KEPT = 40; // such lists in memory
const BEYOND = 700; // pixels above and below the screen that are drawn, too
const TILE = { most: 168, least: 104, gap: 8 };
const SETTLED = 70; // milliseconds without scrolling after which photos are asked for
const REST = 10; // times as long as listing took, the service is left alone while photos are added
const JUMPS = 1500; // sections to choose from at most

export class Gallery {
  /** link(key): the address of a search with a photo. fail(error): says what went wrong. */
  constructor(link, fail) {
    this.link = link;
    this.fail = fail;
    this.element = $("gallery");
    this.wish = null; // {where, name, area, order}: what is listed
    this.found = null; // {total, sections} of it
    this.rows = new Rows([], 1, 1);
    this.lists = new Map(); // of photos, by their number: those from `number * AT_ONCE` on
    this.asked = new Map(); // lists that are awaited: what gives them up
    this.tiles = new Map(); // that are drawn, by the place of their photo
    this.shelves = new Map(); // sections that are drawn, by where they start
    this.wanted = null; // the place that gets the focus as soon as it is drawn
    this.stale = false; // whether photos were added or removed since
    this.rested = 0; // when it may be asked again what there is
    addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.arrange()).observe(this.element);
    this.element.addEventListener("keydown", (event) => this.key(event));
    $("jump").addEventListener("change", () => this.jump(Number($("jump").value)));
  }

  /** wish: {where, name, area, order}; place: what `place` gave, to go back to. */
  async show(wish, place = null) {
    const same = JSON.stringify(wish) === JSON.stringify(this.wish);
    if (same && this.found && !this.stale) {
      for (const [i, tile] of this.tiles) this.relink(tile, i);
      this.arrange();
      this.goTo(place);
      return;
    }
    this.wish = wish;
    if (!same) this.empty();
    if (!await this.list()) return;
    if (place) this.goTo(place);
    else if (!same && this.element.getBoundingClientRect().top < 0) this.jump(0);
  }

  relink(tile, index) {
    const image = this.image(index);
    if (image) tile.firstElementChild.href = this.link(image.key);
  }

  /** Photos were added or removed: they are shown, unless one has gone far down by now, or nobody looks. */
  async refresh() {
    this.stale = true;
    if ($("start").hidden || this.busy || this.element.getBoundingClientRect().top < -innerHeight) return;
    clearTimeout(this.later);
    const rest = this.rested - performance.now();
    if (rest > 0) this.later = setTimeout(() => this.stale && this.refresh(), rest);
    else await this.list();
  }

  empty() {
    this.found = null;
    this.forget();
    $("gallery-count").textContent = "Looking…";
    $("gallery-none").hidden = true;
  }

  forget() {
    for (const work of this.asked.values()) work.abort();
    this.lists.clear();
    this.asked.clear();
    for (const shelf of this.shelves.values()) shelf.element.remove();
    this.shelves.clear();
    this.tiles.clear();
  }

  /** Asks what there is; whether it came, and is still wanted. */
  async list() {
    const wish = this.wish;
    const begun = performance.now();
    this.busy = true;
    try {
      const found = await ask(`images/sections?${this.parameters(wish)}`);
      if (wish !== this.wish) return false;
      this.stale = false;
      if (JSON.stringify(found) === JSON.stringify(this.found)) return true;
      this.found = found;
      this.forget();
      $("gallery-count").textContent = counted(found.total, "photo");
      $("gallery-none").hidden = found.total > 0;
      this.offer();
      this.arrange();
      return true;
    } catch (error) {
      if (wish !== this.wish) return false;
      $("gallery-count").textContent = "";
      $("jump").closest("label").hidden = true;
      this.fail(error);
      return false;
    } finally {
      this.busy = false;
      this.rested = performance.now() + REST * (performance.now() - begun);
    }
  }

  parameters(wish, more = {}) {
    const asked = new URLSearchParams({ order: wish.order, ...more });
    const where = condition(wish);
    if (where) asked.set("where", where);
    return asked;
  }

  /** What one may jump to. */
  offer() {
    const sections = this.sections();
    const said = (label) => (label ? label : { newest: "Without a date", oldest: "Without a date", name: "Other signs" }[this.wish.order] ?? "No folder");
    this.said = (label) => said(label).slice(label ? this.common(sections).length : 0);
    $("jump").replaceChildren(...sections.slice(0, JUMPS).map(({ label, start, count }) =>
      h("option", { value: start }, `${this.said(label)} (${count.toLocaleString("en")})`)));
    $("jump").closest("label").hidden = sections.length < 2;
  }

  /** What all folders begin with, which need not be said of each. */
  common(sections) {
    const labels = sections.map(({ label }) => label).filter(Boolean);
    if (this.wish.order !== "folder" || labels.length < 2) return "";
    let shared = labels[0];
    for (const label of labels) while (!label.startsWith(shared)) shared = shared.slice(0, -1);
    return shared.slice(0, shared.lastIndexOf("/") + 1);
  }

  sections() {
    return readable(this.found?.sections ?? []);
  }

  // --- what is drawn

  /** The rows as wide as the page is now; what was seen at the top stays there. */
  arrange() {
    const width = this.element.clientWidth;
    if (!width || !this.found) return;
    const most = width < 560 ? TILE.least : TILE.most;
    const columns = Math.max(2, Math.floor((width + TILE.gap) / (most + TILE.gap)));
    const pitch = (width + TILE.gap) / columns;
    const before = this.rows;
    if (before.columns === columns && before.pitch === pitch && before.total === this.found.total && this.shelves.size) {
      this.draw();
      return;
    }
    const place = before.total === this.found.total ? this.place() : null;
    this.rows = new Rows(this.sections(), columns, pitch);
    for (const [name, value] of Object.entries({ "--columns": columns, "--pitch": `${pitch}px`, "--height": `${this.rows.height}px` })) {
      this.element.style.setProperty(name, value);
    }
    for (const shelf of this.shelves.values()) shelf.element.remove();
    this.shelves.clear();
    this.tiles.clear();
    this.draw();
    if (place?.index) this.goTo(place);
  }

  scrolled() {
    if ($("start").hidden || !this.found) return;
    this.draw();
    if (this.stale) this.refresh();
  }

  draw() {
    const top = this.element.getBoundingClientRect().top;
    const parts = this.rows.between(-top - BEYOND, -top + innerHeight + BEYOND);
    const starts = new Set(parts.map(({ section }) => section.start));
    const held = document.activeElement?.closest?.("#gallery li")?.dataset.place; // the focus is not taken away
    for (const [start, shelf] of this.shelves) {
      if (starts.has(start) || (held !== undefined && shelf.tiles.has(Number(held)))) continue;
      for (const i of shelf.tiles) this.tiles.delete(i);
      shelf.element.remove();
      this.shelves.delete(start);
    }
    for (const { section, first, end } of parts) this.fill(section, first, end, held);
    const here = this.rows.sectionAt(-top + $("gallery-tools").offsetHeight + 60);
    if (here && document.activeElement !== $("jump")) $("jump").value = here.start;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.load(parts), SETTLED);
  }

  fill(section, first, end, held) {
    const shelf = this.shelves.get(section.start) ?? this.shelf(section);
    for (const i of [...shelf.tiles]) {
      if ((i >= first && i < end) || String(i) === held) continue;
      this.tiles.get(i).remove();
      this.tiles.delete(i);
      shelf.tiles.delete(i);
    }
    for (let i = first; i < end; i += 1) {
      if (shelf.tiles.has(i)) continue;
      const tile = this.tile(i, section);
      const after = [...shelf.list.children].find((other) => Number(other.dataset.place) > i) ?? null;
      shelf.list.insertBefore(tile, after);
      shelf.tiles.add(i);
      this.tiles.set(i, tile);
    }
  }

  shelf(section) {
    const named = this.rows.head > 0;
    const list = h("ul");
    const label = named ? this.said(section.label) : null;
    const element = h("section", { class: "shelf", "aria-label": label, vars: { "--top": `${section.top}px` } },
      named && h("h3", null, label, " ", h("span", { class: "quiet" }, section.count.toLocaleString("en"))), list);
    const after = [...this.shelves.values()].filter((other) => other.start > section.start).sort((a, b) => a.start - b.start)[0];
    this.element.insertBefore(element, after?.element ?? null);
    const shelf = { element, list, start: section.start, tiles: new Set() };
    this.shelves.set(section.start, shelf);
    return shelf;
  }

  tile(index, section) {
    const inside = index - section.start;
    const tile = h("li", { data: { place: index }, "aria-setsize": section.count, "aria-posinset": inside + 1,
      vars: { "--x": inside % this.rows.columns, "--y": Math.floor(inside / this.rows.columns) } });
    this.paint(tile, this.image(index));
    return tile;
  }

  image(index) {
    return this.lists.get(Math.floor(index / AT_ONCE))?.[index % AT_ONCE] ?? null;
  }

  /** What a tile shows of its photo, as soon as that is known. */
  paint(tile, image) {
    if (!image) {
      tile.replaceChildren(h("span", { class: "ghost" }));
      return;
    }
    tile.replaceChildren(h("a", { href: this.link(image.key), "data-route": true, data: { key: image.key }, "aria-label": nameOf(image),
      title: [image.image, copies(image)].filter(Boolean).join(", ") },
      pictured({ src: thumbnail(image), alt: "", decoding: "async" }, whyNot),
      h("span", { class: "tile-words", "aria-hidden": "true" }, nameOf(image))));
  }

  // --- what is asked for

  load(parts) {
    const numbers = new Set();
    for (const { first, end } of parts) {
      for (let i = first; i < end; i += 1) numbers.add(Math.floor(i / AT_ONCE));
    }
    for (const [number, work] of this.asked) if (!numbers.has(number)) work.abort();
    for (const number of numbers) if (!this.lists.has(number) && !this.asked.has(number)) this.fetch(number);
    this.name();
  }

  async fetch(number) {
    const work = new AbortController();
    this.asked.set(number, work);
    try {
      const { images } = await ask(`images?${this.parameters(this.wish, { limit: AT_ONCE, offset: number * AT_ONCE })}`, { signal: work.signal });
      if (work.signal.aborted) return;
      this.lists.set(number, images);
      for (const old of [...this.lists.keys()].slice(0, Math.max(0, this.lists.size - KEPT))) this.lists.delete(old);
      for (const [i, tile] of this.tiles) {
        if (Math.floor(i / AT_ONCE) === number) this.paint(tile, this.image(i));
      }
      this.name();
      this.focus();
    } catch (error) {
      if (!isCancelled(error)) this.fail(error);
    } finally {
      if (this.asked.get(number) === work) this.asked.delete(number);
    }
  }

  /** Says what the photos are called: two of equal names on the screen, by their folders too. */
  name() {
    const images = [...this.tiles.keys()].map((i) => this.image(i)).filter(Boolean);
    const called = names(images);
    for (const anchor of this.element.querySelectorAll("a")) {
      const name = called.get(anchor.dataset.key);
      if (name && anchor.getAttribute("aria-label") !== name) {
        anchor.setAttribute("aria-label", name);
        anchor.lastElementChild.textContent = name;
      }
    }
  }

  // --- where one is

  /** Where one is now, to come back to: the photo at the top of the screen, and how far its row lies below that. */
  place() {
    const top = this.element.getBoundingClientRect().top;
    const key = document.activeElement?.closest?.("#gallery a")?.parentElement.dataset.place;
    const focus = key === undefined ? null : Number(key);
    if (top >= 0 || !this.rows.total) return { index: 0, y: scrollY, focus };
    const [{ section, first }] = this.rows.between(-top, -top + 1);
    const index = Math.min(first, section.start + section.count - 1);
    return { index, y: top + this.rows.top(index), focus };
  }

  goTo(place) {
    if (!place || !this.rows.total) return;
    const index = Math.min(place.index, this.rows.total - 1);
    const top = scrollY + this.element.getBoundingClientRect().top;
    scrollTo({ top: index ? top + this.rows.top(index) - place.y : place.y, behavior: "instant" });
    this.draw();
    this.wanted = place.focus ?? null;
    this.focus();
  }

  /** Goes to the beginning of a section. */
  jump(start) {
    const section = this.rows.sectionOf(start) ?? { top: 0 };
    const above = document.querySelector(".top").offsetHeight + $("gallery-tools").offsetHeight;
    scrollTo({ top: scrollY + this.element.getBoundingClientRect().top + section.top - above, behavior: "instant" });
  }

  key(event) {
    const here = event.target.closest("#gallery li")?.dataset.place;
    if (here === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = Number(here);
    const next = { ArrowLeft: index - 1, ArrowRight: index + 1, ArrowUp: this.rows.beside(index, -1),
      ArrowDown: this.rows.beside(index, 1), Home: 0, End: this.rows.total - 1 }[event.key];
    if (next === undefined || next < 0 || next >= this.rows.total) return;
    event.preventDefault();
    this.wanted = next;
    const top = this.element.getBoundingClientRect().top + this.rows.top(next);
    const above = document.querySelector(".top").offsetHeight + $("gallery-tools").offsetHeight;
    if (top < above) scrollBy({ top: top - above - TILE.gap, behavior: "instant" });
    else if (top + this.rows.pitch > innerHeight) scrollBy({ top: top + this.rows.pitch - innerHeight, behavior: "instant" });
    this.draw();
    this.focus();
  }

  focus() {
    const anchor = this.wanted === null ? null : this.tiles.get(this.wanted)?.querySelector("a");
    if (!anchor) return;
    anchor.focus({ preventScroll: true });
    this.wanted = null;
  }
}
