// The query photo, and the box on it: drawn, moved and resized with mouse, touch and keyboard.

import { $, h } from "./dom.js";

const SMALLEST = 16; // pixels of the query: less has nothing to find
const CORNERS = ["nw", "ne", "sw", "se"];
const HELP = "Arrow keys move it, Shift and arrow keys change its size, Enter searches, Delete removes it.";

export class BoxPhoto {
  /** onchange(box or null): a box was drawn or taken away. */
  constructor(container, onchange) {
    this.container = container;
    this.onchange = onchange;
    this.size = null;
    this.box = this.searched = null;
    this.touch = false; // whether a finger draws; otherwise it scrolls the page
    this.image = h("img", { alt: "", draggable: "false" });
    this.frame = h("div", { class: "box", role: "group", tabindex: "0", hidden: true },
      CORNERS.map((corner) => h("i", { class: `handle ${corner}`, data: { corner } })));
    this.sheet = h("div", { class: "sheet" }, this.frame);
    this.missing = h("p", { class: "missing", hidden: true });
    container.replaceChildren(this.image, this.sheet, this.missing);
    this.image.addEventListener("load", () => this.loaded());
    this.image.addEventListener("error", () => this.unseen());
    this.sheet.addEventListener("pointerdown", (event) => this.press(event));
    this.frame.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * Shows a photo; `size` where it is known better than from the picture that is shown of it. why(url): gives words for
   * why that cannot be shown; without it, that is the browser's fault.
   */
  show(url, alt, size, why = null) {
    this.size = size;
    this.why = why;
    this.image.alt = alt;
    this.missing.hidden = true;
    this.sheet.hidden = this.image.hidden = false;
    if (this.image.src !== url) this.image.src = url;
    this.fit();
    this.paint();
  }

  loaded() {
    this.size ??= [this.image.naturalWidth, this.image.naturalHeight];
    this.fit();
    this.paint();
  }

  async unseen() {
    this.image.hidden = this.sheet.hidden = true;
    this.missing.hidden = false;
    const reason = this.why ? await this.why(this.image.src) : "This browser cannot show a photo of this kind.";
    this.missing.textContent = `${reason} The search works all the same.`;
    this.container.style.removeProperty("aspect-ratio");
  }

  /** The frame of the photo has its shape before it is loaded, so that nothing jumps. */
  fit() {
    if (!this.size) return;
    this.container.style.setProperty("aspect-ratio", `${this.size[0]} / ${this.size[1]}`);
    this.container.style.setProperty("--aspect", this.size[0] / this.size[1]);
  }

  /** Shows the box that is searched for. */
  set(box) {
    this.searched = box;
    this.draft(box);
  }

  /** Shows a box that is not searched for yet. */
  draft(box) {
    this.box = box;
    this.paint();
  }

  drawing(touch) {
    this.touch = touch;
    this.container.classList.toggle("drawing", touch);
  }

  /** A box in the middle, for the keyboard. */
  begin() {
    if (!this.size || this.sheet.hidden) return;
    const [w, h2] = this.size;
    this.draft(this.box ?? [w * 0.25, h2 * 0.25, w * 0.75, h2 * 0.75].map(Math.round));
    this.frame.focus();
  }

  paint() {
    this.frame.hidden = !this.box || !this.size;
    this.container.classList.toggle("boxed", !this.frame.hidden);
    if (this.frame.hidden) return;
    const [w, h2] = this.size;
    const [x1, y1, x2, y2] = this.box;
    const style = this.frame.style;
    [style.left, style.top] = [`${(100 * x1) / w}%`, `${(100 * y1) / h2}%`];
    [style.width, style.height] = [`${(100 * (x2 - x1)) / w}%`, `${(100 * (y2 - y1)) / h2}%`];
    const [width, height] = [Math.round(x2 - x1), Math.round(y2 - y1)];
    this.frame.setAttribute("aria-label",
      `Part of the query: ${width} by ${height} pixels, from ${Math.round(x1)}, ${Math.round(y1)}. ${HELP}`);
  }

  point(event) {
    const place = this.sheet.getBoundingClientRect();
    return [((event.clientX - place.left) / place.width) * this.size[0],
      ((event.clientY - place.top) / place.height) * this.size[1]];
  }

  press(event) {
    const finger = event.pointerType === "touch";
    if (!this.size || event.button !== 0 || (finger && !this.touch && !event.target.closest(".box"))) return;
    event.preventDefault();
    const start = this.point(event);
    const before = this.box;
    const moved = this.mover(event.target, start);
    const move = (next) => {
      this.draft(bounded(moved(this.point(next)), this.size));
    };
    const end = (last) => {
      this.sheet.removeEventListener("pointermove", move);
      this.sheet.removeEventListener("pointerup", end);
      this.sheet.removeEventListener("pointercancel", end);
      const drawn = this.box && last.type === "pointerup" && long(this.box) ? this.box.map(Math.round) : before;
      this.draft(drawn);
      if (String(drawn) !== String(before)) this.onchange(drawn);
    };
    this.sheet.setPointerCapture(event.pointerId);
    this.sheet.addEventListener("pointermove", move);
    this.sheet.addEventListener("pointerup", end);
    this.sheet.addEventListener("pointercancel", end);
  }

  /** What a drag does: a handle moves its corner, the inside of the box moves the box, elsewhere a new box begins. */
  mover(target, [x, y]) {
    const corner = target.dataset.corner;
    if (this.box && corner) {
      const [x1, y1, x2, y2] = this.box;
      const anchor = [corner.includes("w") ? x2 : x1, corner.includes("n") ? y2 : y1];
      return (point) => spanned(anchor, point);
    }
    if (this.box && target.closest(".box")) {
      const [x1, y1, x2, y2] = this.box;
      const [w, h2] = this.size;
      return ([u, v]) => {
        const dx = Math.min(w - x2, Math.max(-x1, u - x));
        const dy = Math.min(h2 - y2, Math.max(-y1, v - y));
        return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
      };
    }
    return (point) => spanned([x, y], point);
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step && this.box) {
      const by = Math.max(1, Math.max(...this.size) / 50);
      const [dx, dy] = step.map((value) => value * by);
      const [x1, y1, x2, y2] = this.box;
      const next = event.shiftKey ? [x1, y1, x2 + dx, y2 + dy] : [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
      if (next[0] >= 0 && next[1] >= 0 && next[2] <= this.size[0] && next[3] <= this.size[1] && long(next)) this.draft(next);
    } else if (event.key === "Enter" && this.box) this.onchange(this.box.map(Math.round));
    else if (event.key === "Delete" || event.key === "Backspace") {
      this.draft(null);
      this.onchange(null);
      $("part").focus();
    } else if (event.key === "Escape") {
      this.draft(this.searched);
      $("part").focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const spanned = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
const long = ([x1, y1, x2, y2]) => x2 - x1 >= SMALLEST && y2 - y1 >= SMALLEST;
const bounded = ([x1, y1, x2, y2], [w, h2]) => [Math.max(0, x1), Math.max(0, y1), Math.min(w, x2), Math.min(h2, y2)];
