// A link to a search, to be given to others.

import { announce, $ } from "./dom.js";
import { copied } from "./files.js";
import { clock } from "./words.js";

/** Copies it. A photo that only this page has is kept by the service first, for a while: kept(key) has the address say so. */
export async function shareLink(queries, state, kept) {
  const say = (text) => {
    $("share-said").textContent = text;
    announce(text);
  };
  try {
    let { shared } = state;
    if (state.upload) {
      shared = (await queries.share(state)).key;
      kept(shared);
    }
    const words = await copied(location.href) ? "The link is copied." : "The link is in the address bar of the browser.";
    say(shared === null ? words : `${words} Whoever has it sees this photo, until ${clock(queries.shared.get(shared).until)}.`);
  } catch (error) {
    say(error.message);
  }
}
