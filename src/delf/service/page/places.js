// The map of the collection: where its photos were taken, counted by the service for what is seen; never all of them.

import { ask, isCancelled } from "./api.js";
import { $, arrowKeys, h } from "./dom.js";
import { ground, load } from "./map.js";
import { condition } from "./state.js";
import { counted, degrees } from "./words.js";

const SETTLED = 120; // milliseconds after which what is seen is asked for
const WORLD = [-90, -180, 90, 180];
const STREET = 14; // the closest zoom that is chosen for somebody
const SIZES = [[1000, 40], [100, 36], [10, 32], [0, 26]]; // pixels of a marker, from so many photos on

export class Places {
  /** link(area): the address of the photos of one. moved(view): the map shows another part now. fail(error): says why not. */
  constructor(link, moved, fail) {
    this.link = link;
    this.moved = moved;
    this.fail = fail;
    this.map = null;
    this.wish = null; // {where, name}: of which photos
    this.area = null; // of which photos are listed
    this.work = null; // what is awaited
    this.found = null; // what the service has said
    arrowKeys($("map"), ".cell");
    $("map-all").addEventListener("click", () => this.zoomTo(this.found.box));
    // A map that is hidden keeps its size, and so its place.
    new ResizeObserver(() => $("map").clientWidth && this.map?.invalidateSize()).observe($("map"));
  }

  /** wish: {where, name}; view: [latitude, longitude, zoom], or null for all; area: [south, west, north, east] or null. */
  async show(wish, view, area) {
    const same = this.found && JSON.stringify(wish) === JSON.stringify(this.wish);
    [this.wish, this.area] = [wish, area];
    if (same) {
      if (view && this.map && String(view) !== String(this.view())) this.map.setView(view.slice(0, 2), view[2], { animate: false });
      else this.mark();
      return;
    }
    $("map").hidden = false;
    $("map-said").textContent = "Looking for places…";
    load().catch(() => {}); // meanwhile: it is what takes long on a slow line
    const found = await this.count(WORLD, 0);
    if (!found || wish !== this.wish) return;
    this.found = found;
    $("map").hidden = !found.placed;
    if (!found.placed) {
      this.say();
      return;
    }
    try {
      await this.draw(view);
    } catch {
      this.say();
      this.fail(new Error("The map did not come. Load the page again to try once more."));
    }
  }

  /** Nobody looks. */
  rest() {
    this.work?.abort();
  }

  /** Photos were added or removed. */
  async refresh() {
    if (!this.map || $("places").hidden) return;
    const wish = this.wish;
    this.wish = null;
    await this.show(wish, this.view(), this.area);
  }

  async draw(view) {
    const loaded = await load();
    const [L] = loaded;
    const [south, west, north, east] = this.found.box;
    if (!this.map) {
      $("map").classList.add("plot");
      this.map = ground(loaded, $("map"), [[south, west], [north, east]]);
      this.cells = L.layerGroup().addTo(this.map);
      if (this.map.getZoom() > STREET) this.map.setZoom(STREET, { animate: false });
      this.map.on("moveend", () => {
        this.moved(this.view());
        clearTimeout(this.settling);
        this.settling = setTimeout(() => this.look(), SETTLED);
      });
    }
    if (view) this.map.setView(view.slice(0, 2), view[2], { animate: false });
    await this.look();
  }

  /** What is seen, as few digits as tell it. */
  view() {
    const { lat, lng } = this.map.getCenter();
    return [Number(lat.toFixed(5)), Number(lng.toFixed(5)), this.map.getZoom()];
  }

  zoomTo([south, west, north, east]) {
    this.map?.fitBounds([[south, west], [north, east]], { padding: [48, 48], maxZoom: STREET });
  }

  async count(box, zoom) {
    this.work?.abort();
    const mine = this.work = new AbortController();
    const asked = new URLSearchParams({ box: box.join(","), zoom });
    const where = condition(this.wish);
    if (where) asked.set("where", where);
    try {
      return await ask(`images/places?${asked}`, { signal: mine.signal });
    } catch (error) {
      if (isCancelled(error)) return null;
      $("map").hidden = !this.found;
      $("map-said").textContent = "";
      this.fail(error);
      return null;
    }
  }

  async look() {
    const seen = this.map.getBounds();
    const box = [seen.getSouth(), seen.getWest(), seen.getNorth(), seen.getEast()].map((side, i) =>
      Math.min(WORLD[i % 2 + 2], Math.max(WORLD[i % 2], side)));
    const found = await this.count(box, Math.floor(this.map.getZoom()));
    if (!found) return;
    this.found = found;
    this.say();
    const held = document.activeElement?.closest?.("#map .cell")?.dataset.box;
    this.cells.clearLayers();
    for (const cell of [...found.cells].reverse()) this.cells.addLayer(this.marker(cell));
    this.mark();
    if (held) $("map").querySelector(`.cell[data-box="${held}"]`)?.focus({ preventScroll: true });
  }

  marker({ count, at, box }) {
    const size = SIZES.find(([least]) => count >= least)[1];
    const words = `${counted(count, "photo")} near ${degrees(at, 2)}`;
    const anchor = h("a", { class: "cell", href: this.link(box), "data-route": true, "aria-label": words, title: words, data: { box: box.join(",") },
      vars: { "--side": `${size}px` } }, count > 1 && h("span", { "aria-hidden": "true" }, short(count)));
    return window.L.marker(at, { interactive: false, keyboard: false, icon: window.L.divIcon({ className: "pin-on-map", iconSize: [size, size], html: anchor }) });
  }

  /** The photos that are listed stand out, and what is linked keeps what is seen now. */
  mark() {
    for (const anchor of $("map").querySelectorAll(".cell")) {
      const box = anchor.dataset.box.split(",").map(Number);
      anchor.href = this.link(box);
      if (this.area && [0, 1].every((i) => box[i] <= this.area[i + 2] && box[i + 2] >= this.area[i])) anchor.setAttribute("aria-current", "true");
      else anchor.removeAttribute("aria-current");
    }
  }

  say() {
    const { total, placed, inside } = this.found;
    $("map-all").hidden = inside === placed;
    const without = total - placed;
    const none = without === 1 ? "One photo does not say where it was taken." : `${counted(without, "photo")} do not say where they were taken.`;
    const shown = inside === placed ? `${counted(placed, "photo")} on the map.` : `${inside.toLocaleString("en")} of ${counted(placed, "photo")} on this part of the map.`;
    $("map-said").textContent = !placed
      ? (total ? "None of these photos says where it was taken: phones and some cameras store that in the file." : "")
      : [shown, without > 0 && none].filter(Boolean).join(" ");
  }
}

const short = (count) => (count < 1000 ? String(count) : count < 9950 ? `${(count / 1000).toFixed(1)}k` : `${Math.round(count / 1000)}k`);
