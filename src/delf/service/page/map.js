// Where photos were taken: a map and the coordinates. Its background is an outline of the world that comes with this page,
// and a grid of degrees; or pictures from a source that who runs the service has named.

import { h, s } from "./dom.js";
import { degrees } from "./words.js";

const LEAFLET = new URL("vendor/", import.meta.url);
const WORLD = new URL("world.json", import.meta.url);
const CLOSEST = 18; // the zoom of a street
const COARSE = 8; // from this zoom on, the outline of the world would say what is not so
const STEPS = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45];
const APART = 72; // pixels from one line of the grid to the next, at least

let source = null; // {url, attribution} of the pictures, if there is one
let parts = null; // Leaflet and the outline, once they are asked for

/** Says where pictures for the background come from; null: from nowhere. */
export function background(named) {
  source = named;
}

/** A figure of the results that have a place (with `gps`), or null where none has. heading: of which level. */
export function placesMap(results, link, called, heading = "h3") {
  const placed = results.filter((result) => result.gps);
  if (!placed.length) return null;
  const without = results.length - placed.length;
  return h("section", { class: "places" },
    h(heading, null, "Where they were taken"),
    h("div", { class: "places-body" },
      plot(placed, link, called),
      h("ol", { class: "coordinates" }, placed.map((result) => h("li", { data: { place: result.key } },
        h("span", { class: "pin", "aria-hidden": "true" }, result.rank),
        h("span", { class: "coordinate" },
          h("a", { href: link(result), "data-route": true }, called.get(result.key)),
          h("span", { class: "quiet" }, degrees(result.gps))))))),
    without > 0 && h("p", { class: "quiet" }, `${without} of the ${results.length} have no place in their data.`));
}

/** The element of the map, which is drawn as soon as it is on the page, and let go of when it leaves it. */
function plot(placed, link, called) {
  const words = `Map of ${placed.length === 1 ? "one place" : `${placed.length} places`}`;
  const element = h("div", { class: "plot", role: "group", "aria-label": words });
  let map = null;
  let begun = false;
  const seen = new ResizeObserver(async () => {
    if (!element.isConnected) {
      seen.disconnect();
      map?.remove();
      map = null;
    } else if (map) map.invalidateSize();
    else if (element.clientWidth && !begun) {
      begun = true;
      try {
        const loaded = await load();
        if (element.isConnected) map = draw(loaded, element, placed, link, called);
      } catch {
        element.append(h("p", { class: "quiet" }, "The map could not be loaded. The places are listed below."));
      }
    }
  });
  seen.observe(element);
  return element;
}

/** Leaflet, and the outline where nothing else is the background. */
export function load() {
  parts ??= Promise.all([library(), source ? null : fetch(WORLD).then((response) => response.json())])
    .catch((error) => {
      parts = null; // so that the next map tries again
      throw error;
    });
  return parts;
}

function library() {
  return new Promise((resolve, reject) => {
    const style = h("link", { rel: "stylesheet", href: new URL("leaflet.css", LEAFLET).href });
    document.head.prepend(style); // so that the page's own styles come after it
    document.head.append(h("script", { src: new URL("leaflet.js", LEAFLET).href, onload: () => resolve(window.L), onerror: reject }));
  });
}

/** An empty map in an element. options: of Leaflet. bounds: [[south, west], [north, east]] that are seen at first. */
export function ground([L, world], element, bounds, options = {}) {
  const touch = matchMedia("(hover: none)").matches;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // One finger, and the wheel, scroll the page, unless one has begun to use the map.
  const map = L.map(element, { maxZoom: CLOSEST, minZoom: 0, zoomSnap: 0.5, dragging: !touch, scrollWheelZoom: false, attributionControl: false, zoomControl: false,
    zoomAnimation: !still, fadeAnimation: !still, inertia: !still, maxBounds: [[-89, -200], [89, 200]], ...options });
  map.on("focus", () => map.scrollWheelZoom.enable()).on("blur", () => map.scrollWheelZoom.disable());
  map.fitBounds(bounds, { padding: [36, 36], maxZoom: CLOSEST, animate: false });
  const [south, west, north, east] = bounds.flat();
  if (south === north && west === east) map.setZoom(source ? 14 : 5, { animate: false });
  if (source) L.tileLayer(source.url, { maxZoom: CLOSEST }).addTo(map);
  else outline(L, world, map);
  L.control.attribution({ prefix: false }).addAttribution(said(source?.attribution ?? "Outline: Natural Earth")).addTo(map);
  L.control.zoom({ position: "topright" }).addTo(map);
  L.control.scale({ imperial: false, position: "bottomright" }).addTo(map);
  return map;
}

function draw(loaded, element, placed, link, called) {
  const [L] = loaded;
  const around = L.latLngBounds(placed.map(({ gps }) => gps));
  const map = ground(loaded, element, [[around.getSouth(), around.getWest()], [around.getNorth(), around.getEast()]]);
  for (const result of [...placed].reverse()) L.marker(result.gps, { interactive: false, keyboard: false, icon: pin(L, result, link, called) }).addTo(map);
  return map;
}

/** What is under the mouse and its place on the map stand out together. */
export function pointPlaces() {
  document.addEventListener("mouseover", (event) => {
    const id = event.target.closest?.("[data-place]")?.dataset.place ?? event.target.closest?.(".card")?.dataset.key;
    for (const place of document.querySelectorAll(".places [data-place]")) place.classList.toggle("near", place.dataset.place === id);
  });
}

function said(text) {
  return h("span", null, text).innerHTML; // as text, whatever is in it
}

function pin(L, result, link, called) {
  const words = `${result.rank}: ${called.get(result.key)}`;
  const anchor = h("a", { class: "place", href: link(result), "data-route": true, "aria-label": words, title: words, data: { place: result.key } },
    s("svg", { viewBox: "-18 -18 36 36", "aria-hidden": "true" }, s("circle", { r: 12 }), s("text", { y: 4 }, String(result.rank))));
  return L.divIcon({ className: "pin-on-map", iconSize: [36, 36], html: anchor });
}

// --- the background that needs nothing from anywhere

function outline(L, world, map) {
  const land = L.polygon(world.land.map((rings) => rings.map(points)), { stroke: false, interactive: false, className: "land" });
  const borders = L.polyline(world.borders.map(points), { weight: 1, interactive: false, className: "border" });
  const shapes = L.layerGroup([land, borders]);
  const grid = L.layerGroup().addTo(map);
  const show = () => {
    if (map.getZoom() < COARSE) shapes.addTo(map);
    else shapes.remove();
    land.bringToBack();
    graticule(L, map, grid);
  };
  map.on("moveend", show);
  show();
}

/** [[latitude, longitude], ...] of a line that says of each point how far east and north of the one before it is. */
function points(steps) {
  const found = [];
  let [x, y] = [0, 0];
  for (let i = 0; i < steps.length; i += 2) {
    x += steps[i];
    y += steps[i + 1];
    found.push([y / 10, x / 10]);
  }
  return found;
}

/** Lines of degrees with their numbers, as close as can be read. */
function graticule(L, map, grid) {
  grid.clearLayers();
  const seen = map.getBounds().pad(0.1);
  const perDegree = map.getSize().x / (map.getBounds().getEast() - map.getBounds().getWest());
  const step = STEPS.find((one) => one * perDegree >= APART) ?? STEPS.at(-1);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const [corner, controls] = [[44, 8], [map.getSize().x - 96, 8]].map((place) => map.containerPointToLatLng(place));
  const line = (from, to, at, text) => {
    L.polyline([from, to], { weight: 1, interactive: false, className: "degrees" }).addTo(grid);
    L.marker(at, { interactive: false, keyboard: false, icon: L.divIcon({ className: "degree", iconSize: null, html: said(text) }) }).addTo(grid);
  };
  const [south, north] = [Math.max(-85, seen.getSouth()), Math.min(85, seen.getNorth())];
  const [west, east] = [Math.max(-180, seen.getWest()), Math.min(180, seen.getEast())];
  for (let k = Math.ceil(south / step); k * step <= north; k += 1) {
    line([k * step, west], [k * step, east], [k * step, Math.max(west, map.getBounds().getWest())], `${Math.abs(k * step).toFixed(digits)}° ${k < 0 ? "S" : "N"}`);
  }
  for (let k = Math.ceil(west / step); k * step <= east; k += 1) {
    if (k * step > corner.lng && k * step < controls.lng) line([south, k * step], [north, k * step], [corner.lat, k * step], `${Math.abs(k * step).toFixed(digits)}° ${k < 0 ? "W" : "E"}`);
  }
}
