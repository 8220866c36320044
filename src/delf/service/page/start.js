// The start: the photos of the collection, in an order, those of a name, and those of a place on the map.

import { $, announce } from "./dom.js";
import { Gallery } from "./gallery.js";
import { Places } from "./places.js";
import { hasQuery, listing, queryState, toAddress } from "./state.js";

const TYPED = 250; // milliseconds after which a name counts as typed

export class Start {
  /** now(): what is looked at. go(next, how): looks at something else. keep(next): only the address says so. fail(error): says what went wrong. */
  constructor(now, go, keep, fail) {
    this.now = now;
    this.gallery = new Gallery((id) => toAddress(queryState(now(), { id })), fail);
    this.places = new Places((area) => toAddress({ ...now(), area }), (view) => this.seen() && keep({ ...now(), map: view }), fail);
    let typing = null;
    $("name").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => hasQuery(now()) || go({ ...now(), name: $("name").value.trim() || null }, { replace: true }), TYPED);
    });
    $("order").addEventListener("change", () => go({ ...now(), order: $("order").value === "newest" ? null : $("order").value }));
    $("show-map").addEventListener("click", () => go({ ...now(), map: now().map ? null : "all" }));
    $("area-none").addEventListener("click", () => go({ ...now(), area: null }));
    $("area-zoom").addEventListener("click", () => this.places.zoomTo(now().area));
  }

  seen() {
    return !hasQuery(this.now()) && this.now().map !== null;
  }

  /** place: where in the photos one was. */
  show(place) {
    const { name, map, area, where } = this.now();
    if (document.activeElement !== $("name")) $("name").value = name ?? "";
    $("order").value = listing(this.now()).order;
    $("show-map").setAttribute("aria-pressed", map !== null);
    $("places").hidden = map === null;
    $("area").hidden = area === null;
    $("area-zoom").hidden = map === null;
    if (map === null) this.places.rest();
    else this.places.show({ where, name }, Array.isArray(map) ? map : null, area);
    const news = [map !== null, area];
    const chosen = place === null && JSON.stringify(news) !== this.known && (map !== null || area !== null);
    this.known = JSON.stringify(news);
    this.gallery.show(listing(this.now()), place);
    if (chosen) this.reveal();
    if (chosen && area) announce("Only photos of the chosen part of the map are listed.");
  }

  /** Brings the map below the tools, where it and the first photos are seen, if they are not. */
  reveal() {
    const last = $("area").hidden ? $("places") : $("area");
    const tools = $("gallery-tools");
    const under = parseFloat(getComputedStyle(tools).top) + tools.offsetHeight;
    const top = ($("places").hidden ? $("area") : $("places")).getBoundingClientRect().top;
    if (top >= under && last.getBoundingClientRect().bottom < 0.8 * innerHeight) return;
    scrollBy({ top: top - under, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth" });
  }

  /** Where in the photos one is. */
  place() {
    return this.gallery.place();
  }

  /** The collection may have other photos now. */
  async refresh() {
    await Promise.all([this.gallery.refresh(), this.places.refresh()]);
  }
}
