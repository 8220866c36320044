// Adding and removing photos, and how far the indexing is that goes on beside the service.

import { ask, mayWrite, pause } from "./api.js";
import { $, announce } from "./dom.js";
import { bytes, counted, sentence } from "./words.js";

const SOON = 1; // seconds between two looks while something is indexed
const SURE = 5000; // milliseconds for a second click
const READ = `delf-read ${location.pathname}`; // the last outcome that was dismissed, until the browser is closed
const LATER = 10; // and at other times: other programs may change the collection

const BATCH_BYTES = 100_000_000; // of photos that are sent at once

/** Photos in batches that the service takes. */
function* batches(files, limits) {
  let some = [];
  let size = 0;
  for (const file of files) {
    if (some.length && (some.length === limits.batch_photos || size + file.size > BATCH_BYTES)) {
      yield some;
      [some, size] = [[], 0];
    }
    some.push(file);
    size += file.size;
  }
  if (some.length) yield some;
}

export class Adding {
  /** changed(): the collection may have other photos now. fail(error): says what went wrong. */
  constructor(changed, fail) {
    this.changed = changed;
    this.fail = fail;
    this.busy = false;
    this.told = ""; // the outcome of the indexing that is on the screen, or was
    this.shown = null; // whether something is indexed now, as far as that is known
    $("add").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => {
      this.add([...$("files").files]);
      $("files").value = "";
    });
    $("work-close").addEventListener("click", () => {
      $("work").hidden = true;
      sessionStorage.setItem(READ, this.told); // what was read need not be read on each page again
    });
  }

  /** Follows the indexing, if there is any, and what else changes the collection. */
  async watch() {
    this.told = sessionStorage.getItem(READ) ?? "";
    for (;;) {
      if (!document.hidden) {
        let now;
        try {
          now = await ask("work");
          if (now.running || this.shown || now.sentence !== this.told) this.progress(now);
          if (!now.running && now.sentence !== this.told) announce(now.sentence);
          this.shown = now.running;
          await this.changed();
        } catch {
          return; // the service has ended: whatever is done next says so
        }
        this.told = now.running ? "" : now.sentence;
        await pause(now.running ? SOON : LATER);
      } else {
        await pause(SOON);
      }
    }
  }

  progress(now) {
    this.shown = now.running;
    if (!now.running && !now.sentence) {
      $("work").hidden = true; // all is as before
      return;
    }
    const words = now.total ? `Indexing: ${now.done.toLocaleString("en")} of ${counted(now.total, "photo")}.` : "Looking for photos.";
    this.say(now.running ? words : now.sentence, now.running ? (now.total ? Math.min(0.999, now.done / now.total) : null) : 1, now.skipped);
  }

  /** Sends photos, as many at once as the service takes, and says what became of them. */
  async add(files) {
    if (this.busy || !files.length) return;
    this.busy = $("add").disabled = true;
    const wrong = [];
    let added = 0;
    let known = 0;
    let sent = 0;
    for (const some of batches(files, this.limits)) {
      this.say(`Sending ${counted(files.length, "photo")}.`, sent / files.length);
      try {
        const job = await this.job(some, ({ done, sentence: waits }) => {
          const words = `Adding ${(sent + done).toLocaleString("en")} of ${counted(files.length, "photo")}.`;
          this.say(waits ? `${words} ${waits}` : words, (sent + done) / files.length);
        });
        added += job.added;
        known += job.known;
        sent += some.length;
        for (const { photo, message } of job.errors) {
          const file = some[photo - 1];
          wrong.push(`${file.name} (${bytes(file.size)}): ${sentence(message)}`);
        }
        if (job.state !== "done") throw new Error(job.sentence);
      } catch (error) {
        wrong.push(sentence(error.message));
        break;
      }
    }
    const parts = [`${counted(added, "photo")} added`, known && `${known.toLocaleString("en")} there already`,
      wrong.length && `${wrong.length.toLocaleString("en")} not added`];
    const words = `${parts.filter(Boolean).join(", ")}.`;
    this.say(words, 1, wrong);
    announce(words);
    this.busy = $("add").disabled = false;
    await this.changed().catch(this.fail);
  }

  /** Sends a batch, and waits until its job has ended. told(job): how far it is. */
  async job(files, told) {
    const form = new FormData();
    for (const file of files) form.append("image", file);
    let job = await ask("images/batch", { form });
    while (["waiting", "running", "cancelling"].includes(job.state)) {
      told(job);
      await pause(0.3);
      job = await ask(`jobs/${job.id}`);
    }
    return job;
  }

  /** Takes a photo out of the collection; whether it is out. */
  async remove(key) {
    try {
      await ask(`images/${key}`, { method: "DELETE", as: "nothing" });
    } catch (error) {
      this.fail(error);
      return false;
    }
    await this.changed().catch(this.fail);
    return true;
  }

  /** Offers to take out a photo: one click asks, and another one within some seconds does it. key: null where none is
   * searched with; removed(): it is out. */
  offer(key, removed, asked = false) {
    const button = $("remove");
    clearTimeout(this.sure);
    button.hidden = key === null || $("add").hidden;
    button.textContent = asked ? "Really remove it?" : "Remove";
    button.title = "Take this photo out of the collection. Its file stays where it is, unless it was added on this page, and is found again when its folder is indexed the next time";
    button.onclick = async () => {
      if (!asked) this.offer(key, removed, true);
      else if (await this.remove(key)) removed();
    };
    if (asked) this.sure = setTimeout(() => this.offer(key, removed), SURE);
  }

  /** share: of the work that is done; null where that is not known. wrong: a sentence for each failure. */
  say(words, share, wrong = []) {
    $("work").hidden = false;
    $("work-words").textContent = words;
    $("work-bar").hidden = share === 1;
    if (share === null) $("work-bar").removeAttribute("value");
    else $("work-bar").value = share;
    $("work-close").hidden = share !== 1;
    $("work-wrong").replaceChildren(...wrong.map((one) => {
      const item = document.createElement("li");
      item.textContent = one;
      return item;
    }));
  }

  /** Offers what this page may change. */
  allow(about) {
    this.limits = about.limits;
    $("add").hidden = !(mayWrite() && about.writable);
    if (!$("add").hidden) $("dropping-words").textContent = "Drop one photo to search with it, or several to add them";
  }
}
