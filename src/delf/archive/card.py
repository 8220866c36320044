"""The card of a data set: what is in it, where it came from, and how its labels were made."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delf.archive.splitting import Split

UNKNOWN = "not known: whoever publishes the photos must ask those who took them"
LABELS = (
    "Photos were joined by delf: local features, candidates found by the index of the photos themselves, pairs "
    "verified by geometry, and groups joined where enough pairs say so. A person has checked what decisions.csv says, "
    "and nothing else.",
    "A photo that shows a landmark from a side, or in a light, that no pair verifies is in no group, or in another "
    "one: what is missing in a group is not proof.",
    "'easy' are photos that make a verified pair with the query, 'hard' others of its group. A method like the one "
    "that made the labels is at an advantage.",
    "Queries without an answer are photos with which nothing verifies. Another photo of the same thing may be in the "
    "index all the same, from another side.",
)


def card_of(split: Split, about: Mapping[str, Any]) -> dict[str, Any]:
    """The card as plain JSON. about: title, licence and source, as far as they are known."""
    counts = split.counts()
    groups = {name: len({row.group for row in split.of(name)} - {None}) for name in ("train", "holdout", "index")}
    folders = Counter(os.fspath(Path(row.file).parent) for row in split.photos.values())
    return {
        "title": about.get("title") or "Photos of landmarks",
        "licence": about.get("licence") or UNKNOWN,
        "source": about.get("source") or "the folders of the photos",
        "model": split.model,
        "photos": {name: counts[name] for name in ("train", "val", "holdout", "index", "query", "unused")},
        "groups": groups,
        "queries": {name: counts[name] for name in ("answerable", "near", "far", "unknown")},
        "positions": sum(row.latitude is not None for row in split.photos.values()),
        "leaks": len(split.leaks),
        "folders": dict(folders.most_common()),
        "labels": list(LABELS),
        "options": asdict(split.options),
    }


def card_text(card: Mapping[str, Any]) -> str:
    """The card in Markdown, with the header that hubs read."""
    photos, groups, queries = card["photos"], card["groups"], card["queries"]
    rows = (("train", photos["train"], groups["train"], "learnt from"),
            ("val", photos["val"], groups["train"], "other photos of the same groups, to watch training by"),
            ("holdout", photos["holdout"], groups["holdout"], "groups that no training sees, for validation"),
            ("index", photos["index"], groups["index"], "searched; photos in no group among them"),
            ("query", photos["query"], groups["index"], f"of these {queries['answerable']:,} with an answer; without "
             f"one, {queries['near']:,} near, {queries['far']:,} far and {queries['unknown']:,} of unknown position"))
    lines = ["---", f"license: {'unknown' if card['licence'] == UNKNOWN else card['licence']}", "---", "",
             f"# {card['title']}", "", f"Source: {card['source']}. Licence of the photos: {card['licence']}.", "",
             "| set | photos | groups | what it is for |", "|---|---|---|---|",
             *(f"| {name} | {count:,} | {number:,} | {what} |" for name, count, number, what in rows), "",
             f"{photos['unused']:,} photos are in no set: near-duplicates, groups of few photos, and photos that may "
             f"belong to two sets. {card['positions']:,} photos have a position. {card['leaks']:,} verified pairs lead "
             "from one set to another that should have nothing in common (leaks.csv).", "",
             "## How the labels were made", "", *card["labels"], "",
             *([f"Model: {card['model']}.", ""] if card["model"] else []),
             "## Where the photos lie", "", *(f"- `{folder}`: {count:,}" for folder, count in card["folders"].items()),
             "", "## Options", "", *(f"- {name}: {value}" for name, value in card["options"].items()), ""]
    return "\n".join(lines)
