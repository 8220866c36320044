// What is searched with: a photo of the collection, one that was given to this page, or one that is shared by a link.

import { ServiceError, ask, picture, sharedPicture, whyNot } from "./api.js";
import { bytes, copies, nameOf } from "./words.js";

/** Why a file is not searched with, as an error; null where it may be. limits: of the service. */
export function refusal(file, limits) {
  if (file.type && !file.type.startsWith("image/")) {
    return new ServiceError(`The file ${file.name} is not a photo. JPEG, PNG, WebP, HEIC, TIFF, GIF and BMP are read`);
  }
  return file.size <= limits.upload_bytes ? null
    : new ServiceError(`The file ${file.name} has ${bytes(file.size)}, and the service takes ${bytes(limits.upload_bytes)} at most. Make it smaller first`);
}

export class Queries {
  constructor() {
    this.uploads = new Map(); // photos that were given to this page, until it is closed
    this.known = new Map(); // photos of the collection, by key
    this.shared = new Map(); // what is known of shared ones: {key, until, size}
  }

  /** Takes a photo; what the address calls it. */
  add(file) {
    const name = Date.now().toString(36) + this.uploads.size;
    this.uploads.set(name, { file, url: URL.createObjectURL(file), size: null });
    return name;
  }

  /** Asks for what is to be known of the query of a state before it can be shown. */
  async know({ id, shared, upload }, signal) {
    if (id !== null) {
      if (!this.known.has(id)) this.known.set(id, await ask(`images/${id}`, { signal }));
    } else if (shared !== null) {
      if (!this.shared.has(shared)) this.shared.set(shared, await ask(`shared/${shared}`, { signal }));
    } else if (!this.uploads.has(upload)) {
      throw new ServiceError("That photo was held by this page only, and is gone with it. Choose it again, please.");
    }
  }

  /** {url, name, title, size, key, why}: how the query of a state is shown. why: says why it cannot be, where that may be. */
  shown({ id, shared, upload }) {
    if (id !== null) {
      const image = this.known.get(id);
      return { url: picture(image), name: nameOf(image), title: [image.image, copies(image)].filter(Boolean).join(", "),
        size: image.size, key: `id ${id}`, why: whyNot };
    }
    if (shared !== null) {
      return { url: sharedPicture(shared), name: "A shared photo", title: "", size: this.shared.get(shared).size, key: `shared ${shared}`, why: whyNot };
    }
    const { url, file, size } = this.uploads.get(upload);
    return { url, name: file.name, title: "", size, key: `upload ${upload}`, why: null };
  }

  /** The query of a state as a form, with the part of it that is searched for. */
  form({ id, shared, upload, box }) {
    const form = new FormData();
    if (id !== null) form.set("id", id);
    else if (shared !== null) form.set("shared", shared);
    else form.set("image", this.uploads.get(upload).file);
    if (box) form.set("box", box.join());
    return form;
  }

  /** Has the service keep the photo that was given to this page: {key, until, size}. */
  async share({ upload }) {
    const form = new FormData();
    form.set("image", this.uploads.get(upload).file);
    const kept = await ask("shared", { form });
    this.shared.set(kept.key, kept);
    return kept;
  }
}
