// How figures are said. The same words as on the pages that `delf search --html` writes.

const KINDS = { "same thing": "same", perhaps: "perhaps", "no match": "none" };

/** The class of what the service says of a photo: "same", "perhaps", "none", or "unknown" where no points were compared. */
export const kindOf = (verdict) => KINDS[verdict] ?? "unknown";

/** A probability in whole percent that never claims certainty. */
export function percent(probability) {
  if (!Number.isFinite(probability)) return "";
  if (probability < 0.01) return "<1 %";
  return probability > 0.99 ? ">99 %" : `${Math.round(100 * probability)} %`;
}

export function counted(number, noun) {
  const plural = /(s|ch)$/.test(noun) ? `${noun}es` : `${noun}s`;
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

export function seconds(value) {
  if (value < 0.0095) return `${(1000 * value).toFixed(value < 0.00095 ? 1 : 0)} ms`;
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

export function bytes(value) {
  return value < 1e6 ? `${Math.max(1, Math.round(value / 1e3))} kB` : `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`;
}

/** A message of the service as a sentence: a capital, and a full stop. */
export function sentence(text) {
  const whole = String(text).trim();
  if (!whole) return "Something went wrong.";
  return whole[0].toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}

/** When a photo was taken, by the clock of its camera, in the form that conditions have: 2019-07-14 16:30. */
export function taken(text) {
  return (text ?? "").slice(0, 16).replace("T", " ");
}

/** A time of the service by the clock of this computer, in the same form. */
export function clock(text) {
  const time = new Date(text);
  return taken(new Date(time - 60_000 * time.getTimezoneOffset()).toISOString());
}

export function degrees([latitude, longitude], digits = 5) {
  const one = (value, plus, minus) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? minus : plus}`;
  return `${one(latitude, "N", "S")}, ${one(longitude, "E", "W")}`;
}

/** What is known of a picture of an archive on the web: `title` of the manifest, `label` of the canvas, and addresses. */
export function archived(image) {
  const said = image.metadata?.iiif;
  return said !== null && typeof said === "object" ? said : {};
}

/** The addresses of a picture in its archive, by what they are of. */
export function addresses(image) {
  const said = archived(image);
  return ["image", "canvas", "manifest"].filter((what) => /^https?:\/\//.test(said[what])).map((what) => [what, said[what]]);
}

/**
 * By key, what photos are called: by the name of their file, with as many folders as tell equal names apart; pages of an
 * archive by their labels, as `folder` says of which book they are.
 */
export function names(images) {
  const parts = new Map(images.map((image) => [image.key, image.image.split(/[\\/]/).filter(Boolean)]));
  const called = new Map(images.map((image) => [image.key, (archived(image).title && archived(image).label) || nameOf(image)]));
  for (let depth = 2; depth < 12; depth += 1) {
    const count = new Map();
    for (const name of called.values()) count.set(name, (count.get(name) ?? 0) + 1);
    const equal = [...called].filter(([key, name]) => count.get(name) > 1 && parts.get(key).length >= depth);
    if (!equal.length) break;
    for (const [key] of equal) called.set(key, parts.get(key).slice(-depth).join("/"));
  }
  return called;
}

/** The name of a file; of a photo that was added here, whose file is named by its digest, the beginning of that. */
export function nameOf(image) {
  return image.name.replace(/^([0-9a-f]{8})[0-9a-f]{56}\.[a-z]+$/, "Added photo $1");
}

/** The folder that a photo lies in, by its last parts; of a page of an archive, its book. */
export function folder(image) {
  if (archived(image).label && archived(image).title) return archived(image).title;
  const parts = image.image.split(/[\\/]/).slice(0, -1).filter(Boolean);
  return parts.length > 3 ? `…/${parts.slice(-3).join("/")}` : parts.join("/");
}

/** A score to be compared with its neighbours, where it is no probability: as delf.verdicts says it. */
export function similarity(score) {
  const digits = Math.abs(score) < 0.1 ? 4 : Math.abs(score) < 100 ? 2 : 0;
  return score.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** The other files that a photo is in, as words; null where there are none. */
export function copies(image) {
  const others = image.files.filter((file) => file !== image.file);
  if (!others.length) return null;
  return `also as ${others.slice(0, 3).join(", ")}${others.length > 3 ? ` and ${others.length - 3} more` : ""}`;
}
