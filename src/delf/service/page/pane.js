// One photo that can be zoomed and moved, with what lies over it: its attention map and an outline.

import { whyNot } from "./api.js";
import { h, s } from "./dom.js";

const NIGHT = [8, 10, 18];
const GLOW = [255, 176, 46];
const CLOSEST = 8; // screen pixels for a pixel of the photo

export class Pane {
  /** onchange(pane): it was moved or zoomed by hand. */
  constructor(name, onchange) {
    this.onchange = onchange;
    this.view = { scale: 1, x: 0, y: 0 };
    this.size = [1, 1];
    this.pointers = new Map();
    this.image = h("img", { alt: "", draggable: "false" });
    this.attention = h("canvas", { class: "attention", hidden: true, "aria-hidden": "true" });
    this.photo = h("div", { class: "photo" }, this.image, this.attention);
    this.outline = s("svg", { class: "outline", "aria-hidden": "true" }, s("polygon", { class: "shade" }), s("polygon"));
    this.caption = h("p", { class: "caption" });
    this.image.addEventListener("error", async () => {
      const url = this.image.src;
      this.image.style.visibility = "hidden"; // instead of the browser's own sign
      const words = await whyNot(url);
      if (url === this.image.src) this.caption.textContent = `${this.name}. ${words}`;
    });
    this.element = h("div", { class: `pane of-${name}` }, this.photo, this.outline, this.caption);
    this.polygon = null;
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.element.addEventListener("pointerdown", (event) => this.press(event));
    this.element.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    this.element.addEventListener("dblclick", (event) => {
      this.zoom(event.shiftKey ? 0.5 : 2, this.place(event));
      this.onchange(this);
    });
  }

  show(url, alt, size, caption) {
    this.size = size;
    this.attention.hidden = true;
    if (this.image.src !== url) {
      this.image.style.visibility = "";
      this.image.src = url;
    }
    this.image.alt = alt;
    this.name = this.caption.textContent = caption;
    [this.photo.style.width, this.photo.style.height] = [`${size[0]}px`, `${size[1]}px`];
  }

  get room() {
    return [this.element.clientWidth, this.element.clientHeight];
  }

  /** The scale at which the whole photo is seen. */
  get least() {
    const [w, h2] = this.room;
    return Math.min(w / this.size[0], h2 / this.size[1], 4) || 1;
  }

  /** How far it is zoomed in, from 1 (the whole photo). */
  get zoomed() {
    return this.view.scale / this.least;
  }

  get centre() {
    const [w, h2] = this.room;
    return this.under([w / 2, h2 / 2]);
  }

  fit() {
    this.look([(this.size[0] - 1) / 2, (this.size[1] - 1) / 2], this.least);
  }

  /** A point of the photo in the middle of the pane, at a scale. */
  look([px, py], scale) {
    const [w, h2] = this.room;
    const bounded = Math.min(Math.max(scale, this.least), Math.max(CLOSEST, this.least));
    this.view = { scale: bounded, x: w / 2 - (px + 0.5) * bounded, y: h2 / 2 - (py + 0.5) * bounded };
    this.keepInside();
  }

  /** Zooms so that the point of the photo under `at` stays there. */
  zoom(factor, at = this.room.map((side) => side / 2)) {
    const scale = Math.min(Math.max(this.view.scale * factor, this.least), Math.max(CLOSEST, this.least));
    const by = scale / this.view.scale;
    this.view = { scale, x: at[0] - (at[0] - this.view.x) * by, y: at[1] - (at[1] - this.view.y) * by };
    this.keepInside();
  }

  move(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.keepInside();
  }

  keepInside() {
    const inside = (start, length, room) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, start)));
    const [w, h2] = this.room;
    this.view.x = inside(this.view.x, this.size[0] * this.view.scale, w);
    this.view.y = inside(this.view.y, this.size[1] * this.view.scale, h2);
  }

  /** A point of the photo as one of the pane, and the other way round. */
  at([px, py]) {
    return [this.view.x + (px + 0.5) * this.view.scale, this.view.y + (py + 0.5) * this.view.scale];
  }

  under([x, y]) {
    return [(x - this.view.x) / this.view.scale - 0.5, (y - this.view.y) / this.view.scale - 0.5];
  }

  shows([x, y]) {
    const [w, h2] = this.room;
    return x >= 0 && y >= 0 && x <= w && y <= h2;
  }

  paint() {
    const { x, y, scale } = this.view;
    this.photo.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    const points = (this.polygon ?? []).map((point) => this.at(point).map((value) => value.toFixed(1)).join()).join(" ");
    for (const polygon of this.outline.children) polygon.setAttribute("points", points);
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), this.place(event));
    this.onchange(this);
  }

  press(event) {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.place(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      this.zoom(spread(now) / spread(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
      this.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    } else this.move(now[0] - before[0], now[1] - before[1]);
    this.pointers.set(event.pointerId, now);
    this.onchange(this);
  }

  /** Lays an attention map over the photo: dark where nothing matters, and a glow where much does. */
  async veil(blob) {
    const bitmap = await createImageBitmap(blob);
    const { width, height } = bitmap;
    [this.attention.width, this.attention.height] = [width, height];
    const context = this.attention.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, width, height);
    const values = pixels.data;
    let most = 1;
    for (let i = 0; i < values.length; i += 4) most = Math.max(most, values[i]);
    for (let i = 0; i < values.length; i += 4) {
      const lit = values[i] / most;
      const glow = lit ** 1.5;
      NIGHT.forEach((night, k) => { values[i + k] = night + (GLOW[k] - night) * glow; });
      values[i + 3] = 240 * (1 - lit) ** 1.7 + 95 * glow;
    }
    context.putImageData(pixels, 0, 0);
    this.attention.hidden = false;
  }
}
