// How figures are said. The same words as on the pages that `delf search --html` writes.

export const SAME = 0.8;
export const PERHAPS = 0.3;

/** "same", "perhaps" or "none": the class of a probability; "unknown" where nothing was verified. */
export function verdict(probability) {
  if (probability >= SAME) return "same";
  return probability >= PERHAPS ? "perhaps" : "none";
}

export const VERDICTS = { same: "same thing", perhaps: "perhaps", none: "no match" };

/** A probability in whole percent that never claims certainty. */
export function percent(probability) {
  if (!Number.isFinite(probability)) return "unknown";
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

export function taken(text) {
  const date = text ? new Date(text) : null;
  return date && !Number.isNaN(date.valueOf())
    ? date.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" }) : "";
}

export function degrees([latitude, longitude]) {
  const one = (value, plus, minus) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
  return `${one(latitude, "N", "S")}, ${one(longitude, "E", "W")}`;
}
