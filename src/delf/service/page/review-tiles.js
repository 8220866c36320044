// What the page for decisions is made of: groups, photos, doubtful pairs and decisions, each as an item of a list.

import { thumbnail, whyNot } from "./api.js";
import { h, icon, pictured } from "./dom.js";
import { counted, percent } from "./words.js";

const WHY = {
  single: "One pair alone joins no two groups.", sure: "Groups of this size need a pair that is surer.",
  evidence: "The evidence is too little.", decision: "A decision keeps them apart.",
};
const VERBS = { merge: "merge", split: "keep apart", rename: "rename", remove: "throw out", landmark: "is a landmark", "no-landmark": "is no landmark" };

/** A decision in a few words. */
export function sayDecision({ action, first, second }) {
  if (action === "rename") return `rename ${first} to ${second}`;
  if (action.endsWith("landmark")) return `${first} ${VERBS[action]}`;
  return `${VERBS[action]} ${first}${second ? ` and ${second}` : ""}`;
}

const shown = (key, alt) => pictured({ src: thumbnail({ key }), alt, loading: "lazy", decoding: "async" }, whyNot);
const nameOf = (photo) => photo.file.split(/[\\/]/).pop();

/** What is to become of something at the next build, and what is so already. */
function marks(pending, now = [], number = null) {
  const words = { split: "to be kept apart", remove: "to be thrown out", landmark: "landmark soon", "no-landmark": "no landmark soon" };
  const soon = [...new Set(pending.map((one) => {
    const [other] = one.groups.filter((group) => group !== number);
    if (one.action === "merge") return number !== null && other !== undefined ? `merge with ${other}` : "to be merged";
    return one.action === "rename" ? `soon ${one.second}` : words[one.action];
  }))];
  return h("p", { class: "marks" }, now.map((word) => h("span", { class: "mark-word now" }, word)), soon.map((word) => h("span", { class: "mark-word" }, word)));
}

function tile({ key, href, open, chosen, choose, out, kind = "" }, label, body, after) {
  const link = href ? h("a", { class: "open", href, data: { key }, "aria-label": label }, body)
    : h("a", { class: "open", href: "#", role: "button", data: { key }, "aria-label": label, onclick: (event) => { event.preventDefault(); open?.(); } }, body);
  const button = choose && h("button", { type: "button", class: "choose", tabindex: "-1", "aria-pressed": String(Boolean(chosen)), "aria-label": `Choose ${label}`, onclick: choose }, icon("check"));
  return h("li", { class: `tile ${kind}${chosen ? " chosen" : ""}${out ? " out" : ""}` }, link, button, after);
}

export function groupTile(group, { decisions, ...options }) {
  const pending = decisions.filter((one) => one.pending && one.groups.includes(group.number));
  const now = { yes: ["landmark"], no: ["no landmark"] }[group.landmark];
  const label = group.name || `Group ${group.label}`;
  const distinct = group.distinct < group.photos ? `, ${group.distinct} different` : "";
  return tile({ ...options, href: `#group=${group.number}`, out: pending.some((one) => one.action === "remove") }, `${label}, ${counted(group.photos, "photo")}`,
    [h("span", { class: "frame" }, shown(group.picture, "")),
      h("span", { class: "tile-facts" }, h("b", {}, label), h("span", {}, `${counted(group.photos, "photo")}${distinct}${group.name ? ` · ${group.number}` : ""}`))],
    marks(pending, now, group.number));
}

export function photoTile(photo, { decisions, choose, ...options }) {
  const pending = decisions.filter((one) => one.pending && one.keys.includes(photo.key));
  const role = { representative: "stands for the group", duplicate: "near-duplicate", copy: "exact copy" }[photo.role] ?? counted(photo.partners, "partner");
  return tile({ ...options, choose, out: pending.some((one) => one.action === "remove") }, nameOf(photo),
    [h("span", { class: "frame" }, shown(photo.key, "")), h("span", { class: "tile-facts", title: photo.file }, h("b", {}, nameOf(photo)), h("span", {}, role))],
    marks(pending));
}

export function doubtCard(doubt, { decisions, choose, ...options }) {
  const [a, b] = [doubt.first, doubt.second];
  const pending = decisions.filter((one) => one.pending && one.keys.includes(a.key) && one.keys.includes(b.key));
  const called = (photo) => (photo.label ? `Group ${photo.label}` : "In no group");
  return tile({ ...options, kind: "doubt" }, `${nameOf(a)} and ${nameOf(b)}, ${percent(doubt.probability)}`,
    [h("span", { class: "pair" }, [a, b].map((photo) => h("span", { class: "frame" }, shown(photo.key, "")))),
      h("span", { class: "tile-facts" }, [a, b].map((photo) => h("b", {}, called(photo))), [a, b].map((photo) => h("span", {}, nameOf(photo))),
        h("span", { class: "whole" }, `${percent(doubt.probability)} the same thing, ${counted(doubt.inliers, "matched point")}. ${WHY[doubt.why] ?? ""}`))],
    marks(pending));
}

export function decisionLine(decision, { takeBack }) {
  return h("li", { class: "decision" }, h("span", { class: "line" }, `line ${decision.line}`),
    h("p", {}, h("b", {}, sayDecision(decision)), decision.note && h("span", { class: "quiet" }, ` ${decision.note}`)),
    decision.pending && h("span", { class: "mark-word" }, "waits for the next build"),
    h("button", { type: "button", class: "button small", "aria-label": `Take back: ${sayDecision(decision)}`, onclick: takeBack }, "Take back"));
}
