// Elements, made by hand: `h("a", { href, class: "card" }, "text", child)`.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));
}

/** A picture of a photo; where it cannot be shown, words that `why` gives take its place. */
export function pictured(properties, why) {
  const image = h("img", properties);
  image.addEventListener("error", async () => {
    const words = h("span", { class: "gone" }, "…");
    image.replaceWith(words);
    words.textContent = await why(image.src);
  }, { once: true });
  return image;
}

/** Says something to those who do not see the page. */
export function announce(text) {
  $("live").textContent = text;
}

/** Arrow keys go from one of the elements to its neighbours, by where they lie on the screen. */
export function arrowKeys(container, selector) {
  container.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const here = event.target.closest?.(selector);
    if (!step || !here || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = neighbour(here, [...container.querySelectorAll(selector)], step);
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
}

function neighbour(here, all, [dx, dy]) {
  if (dx) return all[all.indexOf(here) + dx];
  const centre = (element) => {
    const box = element.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const [x, y] = centre(here);
  const rows = all.map((element) => [element, centre(element)]).filter(([, [, v]]) => (v - y) * dy > 20);
  if (!rows.length) return undefined;
  const nearest = Math.min(...rows.map(([, [, v]]) => Math.abs(v - y)));
  const row = rows.filter(([, [, v]]) => Math.abs(v - y) < nearest + 20);
  return row.sort(([, [a]], [, [b]]) => Math.abs(a - x) - Math.abs(b - x))[0][0];
}
