// The answer to a search: what it says, its cards, where the time went.

import { thumbnail, whyNot } from "./api.js";
import { announce, h, icon, pictured, s } from "./dom.js";
import { fileButton } from "./files.js";
import { outlines } from "./geometry.js";
import { placesMap } from "./map.js";
import { copies, counted, folder, kindOf, names, percent, seconds, similarity } from "./words.js";

const STAGES = {
  read: "read the features", decode: "decode the photo", extract: "extract features", retrieve: "find candidates",
  verify: "verify points", rank: "rank", turn: "look turned",
};

/** A column while nothing has come yet. oncancel: what its button does. */
export function waiting(method, photos, oncancel) {
  const words = h("p", { class: "waiting-words" }, `Searching ${counted(photos, "photo")}…`);
  const column = h("div", { class: "column busy", "aria-busy": "true" },
    h("div", { class: "banner-row" }, h("div", null, h("p", { class: "method-tag" }, method), words),
      h("button", { type: "button", class: "button small", onclick: oncancel }, "Cancel")),
    h("div", { class: "progress", "aria-hidden": "true" }),
    h("div", { class: "cards ghosts", "aria-hidden": "true" },
      Array.from({ length: 6 }, () => h("div", { class: "ghost" }))));
  const usual = words.textContent;
  const start = performance.now();
  const clock = setInterval(() => {
    if (!words.isConnected) clearInterval(clock);
    else if (words.textContent.startsWith(usual)) words.textContent = `${usual} ${Math.floor((performance.now() - start) / 1000)} s`;
  }, 1000);
  return { column, say: (text) => { words.textContent = text ?? usual; } };
}

/** Says that the service is busy, second by second. wait: for so many; say: as `waiting` gives it. */
export function countdown(wait, say, signal) {
  announce(`The service is busy. Trying again in ${counted(wait, "second")}.`);
  for (let left = wait; left >= 0; left -= 1) {
    setTimeout(() => signal.aborted || say(left ? `The service is busy. Trying again in ${left} s.` : null), 1000 * (wait - left));
  }
}

/** A column that says why there is no answer. */
export function stopped(method, text, again) {
  return h("div", { class: "column" },
    h("p", { class: "method-tag" }, method),
    h("h2", { class: "banner", tabindex: "-1" }, text),
    h("p", null, h("button", { type: "button", class: "button", onclick: again }, "Search again")));
}

/**
 * The column of an answer. links: {open(result), search(result), more() or null}; other: the answer it is compared with;
 * images: how many were searched, beside the query itself; alone: whether the query is the only photo where these are none.
 */
export function answered(answer, { links, other = null, box, images, alone = false }) {
  const [found, rest, nothing] = groups(answer);
  const places = new Map((other?.results ?? []).map((result) => [result.key, result.rank]));
  const called = names(answer.results);
  const cards = (results, dim) => h("ul", { class: `cards${dim ? " dim" : ""}` },
    results.map((result) => card(result, { answer, links, called, box, places: other ? places : null })));
  const more = links.more(answer);
  return h("div", { class: "column", data: { method: answer.method } },
    banner(answer, images, alone),
    found.length > 0 && cards(found, false),
    found.length > 0 && !other && placesMap(found, links.open, called),
    rest.length > 0 && found.length > 0 && h("h3", { class: "rest" }, "Nearest of the others"),
    rest.length > 0 && cards(rest, answer.verified),
    nothing.length > 0 && folded(nothing, cards(nothing, true), isUnfolded(found, rest)),
    more && h("p", { class: "more" }, h("a", { class: "button", href: more, "data-route": true }, "Show more results")));
}

let unfolded = false; // whether somebody wants to see results that say nothing

/** Whether they are shown: also where there is nothing else to show. */
const isUnfolded = (found, rest) => unfolded || found.length + rest.length === 0;

function folded(results, cards, open) {
  return h("details", { class: "folded", open },
    h("summary", { onclick: (event) => { unfolded = !event.currentTarget.parentElement.open; } },
      `${counted(results.length, "photo")} without points that match the query`), cards);
}

const saysNothing = (result) => result.probability !== null && result.probability < 0.01 && !result.inliers;

/** The results that show the same, or may; the others; and those that say nothing: the order of the cards. */
export function groups(answer) {
  const found = answer.results.filter((result) => ["same", "perhaps"].includes(kindOf(result.verdict)));
  const rest = answer.results.filter((result) => !found.includes(result));
  return [found, rest.filter((result) => !saysNothing(result)), rest.filter(saysNothing)];
}

/** Numbers the results by their places on the page, which those that come first whatever their rank have changed. */
export function numbered(answer) {
  for (const [i, result] of groups(answer).flat().entries()) result.rank = i + 1;
  return answer;
}

/** The results that are on the screen, in order: what is folded away is no next one. */
export function inOrder(answer, open) {
  const [found, rest, nothing] = groups(answer);
  return [...found, ...rest, ...(isUnfolded(found, rest) || nothing.some(({ key }) => key === open) ? nothing : [])];
}

/** What an answer says in one sentence. */
export function headline(answer) {
  const kind = kindOf(answer.verdict);
  if (kind === "unknown") return answer.results.length ? counted(answer.results.length, "nearest photo") : "Nothing was found";
  if (kind === "none") return "No match in this collection";
  const count = ofKind(answer, kind);
  if (kind === "perhaps") return count === 1 ? "Perhaps 1 photo shows the same thing" : `Perhaps ${counted(count, "photo")} show the same thing`;
  return count === 1 ? "1 photo shows the same thing" : `${counted(count, "photo")} show the same thing`;
}

const ofKind = (answer, kind) => answer.results.filter((result) => kindOf(result.verdict) === kind).length;

function banner(answer, images, alone) {
  const details = [];
  const kind = kindOf(answer.verdict);
  if (kind === "unknown") details.push("This method looks at no geometry; ranked by similarity.");
  else if (kind === "none") {
    details.push(answer.results.length ? images > 1 ? `None of ${counted(images, "photo")} shows the same thing. The nearest are below.` : "The only photo there is shows something else."
      : images > 1 ? `None of ${counted(images, "photo")} shows anything like it.` : images ? "The only photo there is shows nothing like it."
      : alone ? "The collection has no other photo." : "The collection has no photos yet.");
  } else if (kind === "perhaps") details.push("Nothing here is sure.");
  else if (ofKind(answer, "perhaps")) details.push(`Perhaps ${ofKind(answer, "perhaps")} more.`);
  if (answer.missing) details.push(answer.remark);
  return h("header", { class: "answer-head" },
    h("p", { class: "method-tag" }, answer.method),
    h("h2", { class: `banner ${kind}`, tabindex: "-1" }, headline(answer)),
    details.map((text) => h("p", { class: "banner-more" }, text)),
    timings(answer.seconds, answer.missing ? "" : answer.remark));
}

/** Where the time went, and in which order the results are: for those who ask. */
function timings(stages, remark) {
  const parts = Object.entries(stages).filter(([, value]) => value >= 0.0005);
  const total = Object.values(stages).reduce((sum, value) => sum + value, 0);
  return h("details", { class: "timings" },
    h("summary", null, h("span", { class: "timing-words" }, h("span", { class: "unseen" }, "Time: "), seconds(total)),
      h("span", { class: "timing-bar", "aria-hidden": "true" }, parts.map(([name, value]) =>
        h("i", { class: `stage-${name}`, vars: { "--share": value / total } })))),
    h("dl", null, parts.map(([name, value]) => h("div", null,
      h("dt", null, h("i", { class: `stage-${name}` }), STAGES[name] ?? name), h("dd", null, seconds(value))))),
    remark && h("p", { class: "banner-more" }, remark));
}

function card(result, { answer, links, called, box, places }) {
  const kind = kindOf(result.verdict);
  const looked = result.probability !== null;
  const name = called.get(result.key);
  const also = copies(result);
  const words = looked ? `${percent(result.probability)}, ${result.verdict}, ${counted(result.inliers, "inlier")}`
    : answer.verified ? result.verdict : `similarity ${similarity(result.score)}`;
  return h("li", { class: `card ${kind}`, data: { key: result.key, rank: result.rank } },
    h("a", { class: "open", href: links.open(result), "data-route": true,
      "aria-label": `${result.rank}: ${name}: ${words}${also ? `, ${also}` : ""}. Open.` },
      h("span", { class: "frame" },
        pictured({ src: thumbnail(result, 480), alt: "", loading: result.rank > 8 ? "lazy" : null, decoding: "async" }, whyNot),
        ["same", "perhaps"].includes(kind) && outlined(result, answer.size, box),
        h("span", { class: "rank", "aria-hidden": "true" }, result.rank))),
    h("div", { class: "facts" },
      h("p", { class: "figures" },
        (looked || !answer.verified) && h("b", { class: "probability" }, looked ? percent(result.probability) : similarity(result.score)),
        h("span", { class: "quiet" }, answer.verified ? result.verdict : "similarity"),
        places && moved(result, places)),
      looked && h("div", { class: "bar", "aria-hidden": "true" }, h("i", { vars: { "--share": result.probability } })),
      h("p", { class: "name", title: result.image }, name),
      folder(result) && h("p", { class: "folder", title: result.image }, folder(result)),
      also && h("p", { class: "also", title: also }, also),
      looked && h("p", { class: "inliers", title: "Points that match in both photos and fit together" }, counted(result.inliers, "inlier"))),
    h("div", { class: "card-tools" },
      h("a", { class: "again", href: links.search(result), "data-route": true, "aria-label": `Search with ${name}` },
        icon("search"), h("span", null, "Search with this")),
      fileButton(result, name)));
}

/** The outline of the query on a thumbnail that is cut to its frame. */
function outlined(result, size, box) {
  const outline = outlines(result.transform, size, result.size, box).result;
  if (!outline) return null;
  const points = outline.map(([x, y]) => `${(x + 0.5).toFixed(1)},${(y + 0.5).toFixed(1)}`).join(" ");
  return s("svg", { class: "outline", viewBox: `0 0 ${result.size[0]} ${result.size[1]}`,
    preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" }, s("polygon", { class: "shade", points }), s("polygon", { points }));
}

/** How the place of a result differs from that in the answer it is compared with. */
function moved(result, places) {
  const there = places.get(result.key);
  if (there === undefined) return h("span", { class: "moved new" }, "only here");
  const by = there - result.rank;
  if (!by) return null;
  const words = `${Math.abs(by)} ${by > 0 ? "higher" : "lower"} than in the other list`;
  return h("span", { class: `moved ${by > 0 ? "up" : "down"}`, role: "img", "aria-label": words, title: words },
    `${by > 0 ? "↑" : "↓"} ${Math.abs(by)}`);
}
