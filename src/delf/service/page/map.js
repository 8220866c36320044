// Where photos were taken: a plain plot of latitude and longitude with a grid and a scale, and the coordinates.
// It needs no map from anywhere.

import { h, s } from "./dom.js";
import { degrees } from "./words.js";

const WIDTH = 640;
const HEIGHT = 320;
const EDGE = 28;
const KM_PER_DEGREE = 111.32;
const STEPS = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45];

/** A figure of the results that have a place (with `gps`), or null where none has. heading: of which level. */
export function placesMap(results, link, called, heading = "h3") {
  const placed = results.filter((result) => result.gps);
  if (!placed.length) return null;
  const view = viewOf(placed.map((result) => result.gps));
  const without = results.length - placed.length;
  return h("section", { class: "places" },
    h(heading, null, "Where they were taken"),
    h("div", { class: "places-body" },
      plot(placed, view),
      h("ol", { class: "coordinates" }, placed.map((result) => h("li", { data: { place: result.key } },
        h("span", { class: "pin", "aria-hidden": "true" }, result.rank),
        h("span", { class: "coordinate" },
          h("a", { href: link(result), "data-route": true }, called.get(result.key)),
          h("span", { class: "quiet" }, degrees(result.gps))))))),
    without > 0 && h("p", { class: "quiet" }, `${without} of the ${results.length} have no place in their data.`));
}

function viewOf(points) {
  const latitudes = points.map(([latitude]) => latitude);
  const longitudes = points.map(([, longitude]) => longitude);
  const middle = [(Math.min(...latitudes) + Math.max(...latitudes)) / 2, (Math.min(...longitudes) + Math.max(...longitudes)) / 2];
  const squeeze = Math.max(0.05, Math.cos((middle[0] * Math.PI) / 180)); // a degree of longitude is shorter
  const tall = Math.max(Math.max(...latitudes) - Math.min(...latitudes), 0.0004);
  const wide = Math.max((Math.max(...longitudes) - Math.min(...longitudes)) * squeeze, 0.0004);
  const scale = Math.min((WIDTH - 4 * EDGE) / wide, (HEIGHT - 4 * EDGE) / tall); // pixels per degree of latitude
  return {
    middle, scale, squeeze,
    x: (longitude) => WIDTH / 2 + (longitude - middle[1]) * squeeze * scale,
    y: (latitude) => HEIGHT / 2 - (latitude - middle[0]) * scale,
  };
}

function plot(placed, view) {
  const step = STEPS.find((value) => value * view.scale >= 64) ?? STEPS.at(-1);
  const words = `Plot of ${placed.length === 1 ? "one place" : `${placed.length} places`} around ${degrees(view.middle)}`;
  return s("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
    grid(view, step),
    [...placed].reverse().map((result) => s("g", { class: "place", data: { place: result.key },
      transform: `translate(${view.x(result.gps[1]).toFixed(1)} ${view.y(result.gps[0]).toFixed(1)})` },
      s("circle", { r: 12 }), s("text", { y: 4 }, String(result.rank)))),
    scaleBar(view));
}

function grid(view, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const group = s("g", { class: "grid" });
  const half = [HEIGHT / 2 / view.scale, WIDTH / 2 / view.scale / view.squeeze];
  for (let k = Math.ceil((view.middle[0] - half[0]) / step); k * step <= view.middle[0] + half[0]; k += 1) {
    const y = view.y(k * step);
    group.append(s("path", { d: `M0 ${y.toFixed(1)}H${WIDTH}` }));
    if (y > 40 && y < HEIGHT - 30) group.append(s("text", { x: 8, y: y - 5 }, `${(k * step).toFixed(digits)}°`));
  }
  for (let k = Math.ceil((view.middle[1] - half[1]) / (2 * step)); k * 2 * step <= view.middle[1] + half[1]; k += 1) {
    const x = view.x(k * 2 * step);
    group.append(s("path", { d: `M${x.toFixed(1)} 0V${HEIGHT}` }));
    if (x > 50 && x < WIDTH - 60) group.append(s("text", { x: x + 6, y: 16 }, `${(k * 2 * step).toFixed(digits)}°`));
  }
  return group;
}

function scaleBar(view) {
  const pixels = (km) => (km / KM_PER_DEGREE) * view.scale;
  const lengths = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const km = lengths.findLast((length) => pixels(length) <= 130) ?? lengths[0];
  const x = WIDTH - EDGE - pixels(km);
  return s("g", { class: "scale" },
    s("path", { d: `M${x} ${HEIGHT - 20}v6h${pixels(km)}v-6` }),
    s("text", { x: x + pixels(km) / 2, y: HEIGHT - 24 }, km < 1 ? `${1000 * km} m` : `${km.toLocaleString("en")} km`));
}
