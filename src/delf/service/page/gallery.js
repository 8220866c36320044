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
    this.loading = false;
    arrowKeys($("gallery"), "a");
    $("gallery-more").addEventListener("click", () => this.more());
  }

  show() {
    if (!this.images.length) this.more();
    for (const anchor of $("gallery").querySelectorAll("a")) anchor.href = this.link(anchor.dataset.key);
  }

  async more() {
    if (this.loading) return;
    this.loading = true;
    try {
      const { total, images, next } = await ask(`images?limit=${AT_ONCE}${this.next ? `&after=${this.next}` : ""}`);
      const first = this.images.length ? images[0]?.key : null;
      this.images.push(...images);
      this.next = next;
      $("gallery").append(...images.map((image) => this.tile(image)));
      this.name();
      $("gallery-count").textContent = next ? `${this.images.length.toLocaleString("en")} of ${counted(total, "photo")}` : counted(total, "photo");
      $("gallery-more").hidden = next === null;
      if (first) $("gallery").querySelector(`a[data-key="${first}"]`)?.focus();
    } catch (error) {
      this.fail(error);
    }
    this.loading = false;
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
