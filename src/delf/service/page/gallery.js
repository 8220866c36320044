// The photos of the collection, to begin with.

import { ask, thumbnail } from "./api.js";
import { $, arrowKeys, h } from "./dom.js";
import { counted } from "./words.js";

const AT_ONCE = 60;

export class Gallery {
  /** link(id): the address of a search with a photo. fail(error): says what went wrong. */
  constructor(link, fail) {
    this.link = link;
    this.fail = fail;
    this.shown = 0;
    this.loading = false;
    arrowKeys($("gallery"), "a");
    $("gallery-more").addEventListener("click", () => this.more());
  }

  show() {
    if (!this.shown) this.more();
    for (const anchor of $("gallery").querySelectorAll("a")) anchor.href = this.link(Number(anchor.dataset.id));
  }

  async more() {
    if (this.loading) return;
    this.loading = true;
    try {
      const { total, images } = await ask(`images?offset=${this.shown}&limit=${AT_ONCE}`);
      const first = this.shown > 0 ? images[0]?.id : null;
      $("gallery").append(...images.map((image) => this.tile(image)));
      this.shown += images.length;
      $("gallery-count").textContent = total > this.shown
        ? `${this.shown.toLocaleString("en")} of ${counted(total, "photo")}` : counted(total, "photo");
      $("gallery-more").hidden = this.shown >= total || images.length === 0;
      if (first !== null) $("gallery").querySelector(`a[data-id="${first}"]`)?.focus();
    } catch (error) {
      this.fail(error);
    }
    this.loading = false;
  }

  tile(image) {
    const aspect = Math.min(2.4, Math.max(0.55, image.size[0] / image.size[1]));
    return h("li", { vars: { "--aspect": aspect.toFixed(3) } },
      h("a", { href: this.link(image.id), "data-route": true, data: { id: image.id } },
        h("img", { src: thumbnail(image), alt: image.name, loading: "lazy", decoding: "async" }),
        h("span", { class: "tile-words", "aria-hidden": "true" }, "Search with this")));
  }
}
