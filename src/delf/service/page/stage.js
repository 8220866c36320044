// Query and result beside each other, joined by the inliers. Zooming or moving one photo moves the other to the same
// place, as far as the transform tells where that is.

import { h, s } from "./dom.js";
import { drawnLines, inverse, lineColour, lineOpacity, magnification, mapped, outlines } from "./geometry.js";
import { Pane } from "./pane.js";

const STEP = 60; // pixels that an arrow key moves
const NEAR = 14; // pixels from a point at which its line stands out

export class Stage {
  constructor(element) {
    this.element = element;
    this.query = new Pane("query", (pane) => this.moved(pane));
    this.result = new Pane("result", (pane) => this.moved(pane));
    this.lines = s("svg", { class: "lines", "aria-hidden": "true" });
    element.replaceChildren(this.query.element, this.result.element, this.lines);
    this.together = this.withLines = this.withOutline = true;
    this.shown = { query: null, result: null, words: "" };
    this.rows = [];
    this.waiting = false;
    new ResizeObserver(() => this.arrange()).observe(element);
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("pointermove", (event) => this.point(event));
    element.addEventListener("pointerleave", () => this.stand(null));
  }

  /** evidence: {transform, inlier_points}, of the query with its box and the result; trusted: whether it is outlined. */
  show(query, result, evidence, box, trusted) {
    this.query.show(query.url, query.alt, query.size, "Query");
    this.result.show(result.url, result.alt, result.size, "Result");
    this.evidence(evidence, box, trusted);
    this.arrange(true);
  }

  evidence({ transform, inlier_points: points }, box, trusted) {
    this.transform = trusted ? transform : null;
    this.back = this.transform && inverse(this.transform);
    this.shown = outlines(this.transform, this.query.size, this.result.size, box);
    const rows = drawnLines(points, this.query.size, this.result.size);
    const opacity = lineOpacity(rows.length);
    this.rows = rows.map((row) => {
      const point = points[row];
      const parts = [s("line"), s("circle", { r: 2.6 }), s("circle", { r: 2.6 })];
      const element = s("g", { vars: { "--colour": lineColour(row, points.length), "--opacity": opacity.toFixed(3) } }, parts);
      return { from: point.slice(0, 2), to: point.slice(2, 4), element, parts };
    });
    this.lines.replaceChildren(...this.rows.map((row) => row.element));
    this.paint();
  }

  /** Beside each other or one above the other, whichever shows the photos larger. */
  arrange(fresh = false) {
    const [w, h2] = [this.element.clientWidth, this.element.clientHeight];
    if (!w || !h2) return;
    const [a, b] = [this.query.size, this.result.size].map(([width, height]) => Math.min(3, Math.max(1 / 3, width / height)));
    const stacked = Math.min(w, h2 / (1 / a + 1 / b)) > Math.min(w / (a + b), h2) * Math.max(a, b);
    this.element.classList.toggle("stacked", stacked);
    this.element.style.setProperty("--share", stacked ? b / (a + b) : a / (a + b)); // of the room, for the query
    for (const pane of [this.query, this.result]) {
      if (fresh || pane.zoomed < 1.02) pane.fit();
      else pane.zoom(1);
    }
    this.paint();
  }

  moved(pane) {
    if (this.together) this.follow(pane);
    this.paint();
  }

  /** The other photo goes where this one looks; near the whole photos it does so by degrees. */
  follow(pane) {
    const other = pane === this.query ? this.result : this.query;
    const transform = pane === this.query ? this.transform : this.back;
    const centre = pane.centre;
    const target = transform && mapped(transform, centre);
    if (!target) {
      const share = centre.map((value, i) => ((value + 0.5) / pane.size[i]) * other.size[i] - 0.5);
      other.look(share, other.least * pane.zoomed);
      return;
    }
    const much = Math.min(1, Math.log2(Math.max(1, pane.zoomed)));
    const scale = pane.view.scale / magnification(transform, centre);
    const middle = other.size.map((side) => (side - 1) / 2);
    other.look(target.map((value, i) => middle[i] + (value - middle[i]) * much), other.least ** (1 - much) * scale ** much);
  }

  zoom(factor) {
    this.query.zoom(factor);
    if (!this.together) this.result.zoom(factor);
    this.moved(this.query);
  }

  fit() {
    this.query.fit();
    this.result.fit();
    this.paint();
  }

  key(event) {
    const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) {
      this.query.move(step[0] * STEP, step[1] * STEP);
      if (!this.together) this.result.move(step[0] * STEP, step[1] * STEP);
      this.moved(this.query);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  /** The line whose point is nearest to the mouse stands out. */
  point(event) {
    if (event.buttons || !this.withLines) return;
    const box = this.element.getBoundingClientRect();
    const at = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = NEAR;
    for (const row of this.rows) {
      for (const end of row.ends ?? []) {
        const distance = Math.hypot(end[0] - at[0], end[1] - at[1]);
        if (distance < least) [best, least] = [row, distance];
      }
    }
    this.stand(best);
  }

  stand(row) {
    this.lines.classList.toggle("one", Boolean(row));
    for (const other of this.rows) other.element.classList.toggle("near", other === row);
  }

  paint() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.query.polygon = this.withOutline ? this.shown.query : null;
      this.result.polygon = this.withOutline ? this.shown.result : null;
      this.query.paint();
      this.result.paint();
      this.paintLines();
      this.element.dataset.zoom = this.query.zoomed.toFixed(2);
    });
  }

  paintLines() {
    const places = [this.query, this.result].map(({ element }) => [element.offsetLeft, element.offsetTop]);
    let seen = 0;
    for (const row of this.rows) {
      const [a, b] = [this.query.at(row.from), this.result.at(row.to)];
      const visible = this.withLines && this.query.shows(a) && this.result.shows(b);
      row.element.toggleAttribute("hidden", !visible);
      row.ends = visible ? [[a[0] + places[0][0], a[1] + places[0][1]], [b[0] + places[1][0], b[1] + places[1][1]]] : null;
      if (!visible) continue;
      seen += 1;
      const [line, ...dots] = row.parts;
      const [[x1, y1], [x2, y2]] = row.ends;
      for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(name, value.toFixed(1));
      dots.forEach((dot, i) => {
        dot.setAttribute("cx", row.ends[i][0].toFixed(1));
        dot.setAttribute("cy", row.ends[i][1].toFixed(1));
      });
    }
    this.element.dataset.lines = seen;
  }
}
