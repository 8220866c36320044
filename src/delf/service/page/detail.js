// A result, opened: the evidence, looked at closely.

import { ask, isCancelled, picture } from "./api.js";
import { $, h } from "./dom.js";
import { fileButton } from "./files.js";
import { Stage } from "./stage.js";
import { addresses, copies, counted, degrees, folder, kindOf, percent, taken } from "./words.js";

const SWIPE = 56; // pixels

const outlined = (evidence) => ["same", "perhaps"].includes(kindOf(evidence.verdict));

export class Detail {
  /** close(): it was closed. step(by): another result is asked for. form(): the query as a form. */
  constructor({ close, step, form }) {
    this.dialog = $("detail");
    this.form = form;
    this.onclose = close;
    this.step = step;
    this.stage = new Stage($("stage"));
    this.maps = new Map(); // attention maps that were asked for, by what they are of
    this.work = null;
    this.shown = null; // {query, result}
    this.dialog.addEventListener("close", () => this.onclose());
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    $("detail-close").addEventListener("click", () => this.dialog.close());
    $("detail-before").addEventListener("click", () => step(-1));
    $("detail-after").addEventListener("click", () => step(1));
    $("zoom-in").addEventListener("click", () => this.stage.zoom(1.5));
    $("zoom-out").addEventListener("click", () => this.stage.zoom(1 / 1.5));
    $("zoom-fit").addEventListener("click", () => this.stage.fit());
    this.toggles();
    this.swipes();
  }

  /** A finger that goes sideways over whole photos asks for the next result; over a part of one it moves that. */
  swipes() {
    let from = null;
    const stage = $("stage");
    const whole = () => this.stage.query.zoomed < 1.02 && this.stage.result.zoomed < 1.02;
    stage.addEventListener("pointerdown", (event) => {
      from = event.pointerType === "touch" && event.isPrimary && whole() ? event : null;
    }, { capture: true });
    stage.addEventListener("pointerup", (event) => {
      if (!from || event.pointerId !== from.pointerId || !whole()) return;
      const [dx, dy] = [event.clientX - from.clientX, event.clientY - from.clientY];
      from = null;
      if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) this.step(dx < 0 ? 1 : -1);
    }, { capture: true });
  }

  toggles() {
    const bound = { "show-lines": "withLines", "show-outline": "withOutline", "move-together": "together" };
    for (const [id, name] of Object.entries(bound)) {
      $(id).addEventListener("change", (event) => {
        this.stage[name] = event.target.checked;
        this.stage.moved(this.stage.query);
      });
    }
    $("show-attention").addEventListener("change", () => this.attention());
    $("attention-strength").addEventListener("input", () => this.strength());
    this.strength();
  }

  strength() {
    this.dialog.style.setProperty("--veil", $("attention-strength").value / 100);
  }

  get open() {
    return this.dialog.open;
  }

  /**
   * query: {url, alt, key}; answer: what `result` is of; called: the name of the result; search: the address of a
   * search with it; ends: whether it is the first and the last one.
   */
  show({ query, result, answer, called, box, search, ends }) {
    this.work?.abort();
    this.work = new AbortController();
    this.shown = { query, result };
    $("detail-title").textContent = called;
    $("detail-search").href = search;
    $("detail-file").replaceChildren(fileButton(result, called));
    [$("detail-before").disabled, $("detail-after").disabled] = ends;
    if (!this.dialog.open) this.dialog.showModal();
    const looked = result.probability !== null;
    const evidence = looked ? result : { transform: null, inlier_points: [] };
    this.stage.show({ ...query, size: answer.size }, { url: picture(result), alt: called, size: result.size },
      evidence, box, outlined(result));
    if (looked) this.words(result, answer.method);
    else this.compare(result, answer, box);
    if ($("show-attention").checked) this.attention();
    $("detail-title").focus();
  }

  words(evidence, method) {
    const { result } = this.shown;
    const facts = [`${percent(evidence.probability)} ${evidence.verdict}`.trim(),
      evidence.probability === null ? null : evidence.tentative ? `${counted(evidence.inliers, "inlier")} of ${counted(evidence.tentative, "match")}`
        : counted(evidence.inliers, "inlier"),
      folder(result) && `in ${folder(result)}`, taken(result.taken), result.gps && degrees(result.gps), copies(result),
      `${result.size[0]} × ${result.size[1]}`, method];
    $("detail-facts").replaceChildren(...facts.filter(Boolean).map((fact, i) => {
      const part = document.createElement("span");
      part.textContent = fact;
      if (i === 0) part.className = `verdict ${kindOf(evidence.verdict)}`;
      return part;
    }), ...links(result));
    const outline = this.stage.shown.words;
    $("outline-word").textContent = outline ? `Outline of ${outline.split(" on ")[0]}` : "Outline";
    $("show-outline").disabled = !this.stage.shown.query && !this.stage.shown.result;
    this.note(evidence.inliers ? "" : "No points of the two photos agree.");
  }

  /** Where geometry has not looked at a pair, it does so now. */
  async compare(result, answer, box) {
    this.words({ probability: null, verdict: result.verdict, inliers: 0, tentative: 0 }, answer.method);
    this.note("Comparing the points of the two photos…");
    const form = this.form();
    form.set("other", result.key);
    form.delete("method");
    try {
      const evidence = await ask("matches", { form, signal: this.work.signal, onwait: (s) => this.busy(s) });
      this.stage.evidence(evidence, box, outlined(evidence));
      this.words(evidence, `${answer.method}, points compared now`);
    } catch (error) {
      if (!isCancelled(error)) this.note(error.message);
    }
  }

  async attention() {
    const wanted = $("show-attention").checked;
    $("attention-strength").hidden = !wanted;
    const shown = this.shown;
    const { query, result } = shown;
    const panes = [[this.stage.query, query.key, () => this.form()], [this.stage.result, `id ${result.key}`, () => {
      const form = new FormData();
      form.set("id", result.key);
      return form;
    }]];
    if (!wanted) {
      for (const [pane] of panes) pane.attention.hidden = true;
      return;
    }
    this.note("Computing where the model looks…");
    try {
      for (const [pane, key, form] of panes) {
        const map = await this.map(key, form);
        if (this.shown !== shown) return;
        await pane.veil(map);
        if (!$("show-attention").checked) pane.attention.hidden = true;
      }
      this.note("");
    } catch (error) {
      if (!isCancelled(error)) this.note(error.message);
    }
  }

  async map(key, form) {
    if (!this.maps.has(key)) {
      const body = form();
      for (const name of ["box", "method", "top", "points"]) body.delete(name);
      this.maps.set(key, await ask("attention", { form: body, signal: this.work.signal, as: "blob",
        onwait: (seconds) => this.busy(seconds) }));
    }
    return this.maps.get(key);
  }

  busy(seconds) {
    this.note(`The service is busy. Trying again in ${seconds} s.`);
  }

  note(text) {
    $("detail-note").textContent = text;
  }

  key(event) {
    if (event.target.matches("input[type=range]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { n: 1, p: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by && !(event.key.startsWith("Arrow") && event.target.closest("#stage, .file-menu"))) this.step(by);
    else if (event.key === "s") $("detail-search").click();
    else if (event.target !== $("stage") && ["+", "=", "-", "0"].includes(event.key)) this.stage.key(event);
    else return;
    event.stopPropagation();
  }

  /** Closes it and returns the result that it showed last. */
  close() {
    this.work?.abort();
    if (this.dialog.open) this.dialog.close();
    const last = this.shown?.result ?? null;
    this.shown = null;
    return last;
  }
}

/** Where a picture that came from an archive on the web is to be found there. */
function links(result) {
  const found = addresses(result).map(([what, href]) => h("a", { href, target: "_blank", rel: "noopener noreferrer" }, what));
  return found.length ? [h("span", { class: "links" }, "In its archive: ", found.flatMap((link, i) => (i ? [", ", link] : [link])))] : [];
}
