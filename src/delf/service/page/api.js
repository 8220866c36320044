// The service, asked. A busy service is waited for; every failure is a sentence.

import { sentence } from "./words.js";

const BASE = new URL("api/v1/", document.baseURI);
const TOKEN = `delf-token ${BASE.pathname}`; // where it is kept until the browser is closed
const PATIENCE = 180; // seconds for which a busy service is asked again

export class ServiceError extends Error {
  constructor(message, { code = "unknown", status = 0 } = {}) {
    super(sentence(message));
    this.code = code;
    this.status = status;
  }
}

export const isCancelled = (error) => error?.name === "AbortError";

/** The token that the address has brought (`delf open` prints one with it), which is then taken out of the address. */
function broughtToken() {
  const brought = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!brought) return sessionStorage.getItem(TOKEN);
  sessionStorage.setItem(TOKEN, brought);
  history.replaceState(history.state, "", location.pathname + location.search);
  return brought;
}
const token = broughtToken();

/** Whether this page can show a token, which adding and removing need. */
export const mayWrite = () => Boolean(token);

/** A request as JSON (or as a blob, or nothing). `onwait(seconds)` is told when the service is busy, before it is asked again. */
export async function ask(path, { form = null, json = null, method = form ?? json ? "POST" : "GET", signal = null, onwait = () => {}, as = "json" } = {}) {
  let waited = 0;
  for (let least = 1; ; least *= 1.4) {
    const response = await send(path, method, form, json, signal);
    if (response.ok && as === "nothing") return null;
    if (response.ok) return as === "blob" ? response.blob() : response.json();
    const busy = response.status === 503 || response.status === 429;
    if (!busy || waited >= PATIENCE) throw await failure(response);
    // As long as the service says, and longer each time: what it says is a guess, and others ask as well.
    const wait = Math.min(60, Math.max(Math.round(least), Number(response.headers.get("Retry-After")) || 2));
    waited += wait;
    onwait(wait);
    await pause(wait, signal);
  }
}

async function send(path, method, form, json, signal) {
  const writes = /^jobs/.test(path) || (/^(images|decisions|moves|keeps)/.test(path) && method !== "GET");
  const headers = writes && token ? { Authorization: `Bearer ${token}` } : {};
  if (json) headers["Content-Type"] = "application/json";
  try {
    return await fetch(new URL(path, BASE), { method, body: form ?? (json ? JSON.stringify(json) : undefined), headers, signal });
  } catch (error) {
    if (isCancelled(error)) throw error;
    throw new ServiceError("The service cannot be reached. Is it still running?", { code: "offline" });
  }
}

async function failure(response) {
  let told = null;
  try {
    told = (await response.json()).error;
  } catch { /* not JSON: a proxy in between, perhaps */ }
  return new ServiceError(told?.message ?? `The service answered with status ${response.status}`,
    { code: told?.code, status: response.status });
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    }, { once: true });
  });
}

export const thumbnail = (image, side = 320) => new URL(`images/${image.key}/thumbnail?side=${side}`, BASE).href;
export const original = (image) => new URL(`images/${image.key}/original`, BASE).href;
export const sharedPicture = (key) => new URL(`shared/${key}/picture?side=1600`, BASE).href;
export const picture = (image, side = 1600) => new URL(`images/${image.key}/picture?side=${side}`, BASE).href;

/** Why a picture cannot be shown, in a few words: it has been asked for, and did not come. */
export async function whyNot(url) {
  try {
    const response = await fetch(url);
    if (response.ok) return "This picture cannot be shown.";
    const { code } = (await response.json()).error;
    return { file_gone: "Gone from the disk.", removed: "Removed from the collection.", image: "The file cannot be read.",
      not_found: "Not in the collection.", expired: "The photo of this link is not kept any more." }[code] ?? "This picture could not be loaded.";
  } catch {
    return "This picture could not be loaded.";
  }
}
