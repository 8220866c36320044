// The photos of the collection, to begin with.

import { ask, thumbnail, whyNot } from "./api.js";
import { $, arrowKeys, h, pictured } from "./dom.js";
import { copies, counted, names } from "./words.js";

const AT_ONCE = 60;

export class Gallery {
  /** link(key): the address of a search with a photo. fail(error): says what went wrong. */
  constructor(link, fail) {
    this.link = link;
    this.fail = fail;
    this.images = [];
    this.next = null; // after which photo the next ones come
    this.where = null; // the condition on those that are listed
    this.loading = false;
    arrowKeys($("gallery"), "a");
    $("gallery-more").addEventListener("click", () => this.more());
  }

  show(where) {
    if (where !== this.where) this.reset(where);
    if (!this.images.length) this.more();
    for (const anchor of $("gallery").querySelectorAll("a")) anchor.href = this.link(anchor.dataset.key);
  }

  /** Begins anew, with other photos. */
  reset(where = this.where) {
    this.where = where;
    this.turn = (this.turn ?? 0) + 1;
    this.loading = false;
    this.images = [];
    this.next = null;
    $("gallery").replaceChildren();
    $("gallery-count").textContent = "";
    $("gallery-more").hidden = true;
  }

  /** Shows what was added or removed, unless it is far down by now. */
  async refresh() {
    if (this.images.length > AT_ONCE || this.loading) return;
    const turn = this.turn;
    const found = await ask(this.address(null));
    const same = found.images.length === this.images.length && found.images.every((image, i) => image.key === this.images[i].key);
    if (turn !== this.turn || this.loading) return;
    if (same) {
      this.count(found.total, found.next);
      return;
    }
    this.reset();
    this.put(found);
  }

  address(after) {
    const asked = new URLSearchParams({ limit: AT_ONCE });
    if (after) asked.set("after", after);
    if (this.where) asked.set("where", this.where);
    return `images?${asked}`;
  }

  async more() {
    if (this.loading) return;
    this.loading = true;
    const turn = this.turn;
    try {
      const found = await ask(this.address(this.next));
      if (turn !== this.turn) return; // another condition by now
      const first = this.images.length ? found.images[0]?.key : null;
      this.put(found);
      if (first) $("gallery").querySelector(`a[data-key="${first}"]`)?.focus();
    } catch (error) {
      if (turn !== this.turn) return;
      this.fail(error);
    }
    this.loading = false;
  }

  put({ total, images, next }) {
    this.images.push(...images);
    $("gallery").append(...images.map((image) => this.tile(image)));
    this.name();
    this.count(total, next);
  }

  count(total, next) {
    this.next = next;
    $("gallery-count").textContent = next ? `${this.images.length.toLocaleString("en")} of ${counted(total, "photo")}` : counted(total, "photo");
    $("gallery-more").hidden = next === null;
  }

  tile(image) {
    const aspect = Math.min(2.4, Math.max(0.55, image.size[0] / image.size[1]));
    return h("li", { vars: { "--aspect": aspect.toFixed(3) } },
      h("a", { href: this.link(image.key), "data-route": true, data: { key: image.key },
        title: [image.image, copies(image)].filter(Boolean).join(", ") },
        pictured({ src: thumbnail(image), alt: "", loading: "lazy", decoding: "async" }, whyNot),
        h("span", { class: "tile-words", "aria-hidden": "true" }, "Search with this")));
  }

  /** Says what the photos are called: two of equal names, also of two pages, by their folders too. */
  name() {
    const called = names(this.images);
    for (const anchor of $("gallery").querySelectorAll("a")) anchor.setAttribute("aria-label", called.get(anchor.dataset.key));
  }
}
