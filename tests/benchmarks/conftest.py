"""A benchmark folder that is a small part of a large one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
QUERIES, MOST_POSITIVES, DISTRACTORS = 4, 6, 12


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four queries of a benchmark of landmarks, all that shows them, and some images that do not."""
    source = SHARED / "data" / "bench" / "provence"
    if not source.is_dir():
        pytest.skip(f"there are no benchmark photos in {source}; DELF_SHARED says where they are")
    truth = json.loads((source / "gnd.json").read_text())
    small = [number for number, entry in enumerate(truth["gnd"])
             if entry["easy"] and entry["hard"] and len(entry["easy"]) + len(entry["hard"]) <= MOST_POSITIVES]
    chosen = small[:QUERIES]
    entries = [truth["gnd"][number] for number in chosen]
    used = {image for entry in truth["gnd"] for key in ("easy", "hard", "junk") for image in entry[key]}
    kept = sorted({image for entry in entries for key in ("easy", "hard", "junk") for image in entry[key]}
                  | set([image for image in range(len(truth["imlist"])) if image not in used][:DISTRACTORS]))
    place = {image: number for number, image in enumerate(kept)}
    reduced = {"imlist": [truth["imlist"][image] for image in kept],
               "qimlist": [truth["qimlist"][number] for number in chosen],
               "gnd": [{**entry, **{key: [place[image] for image in entry[key]] for key in ("easy", "hard", "junk")}}
                       for entry in entries]}
    folder = tmp_path_factory.mktemp("bench") / "small"
    (folder / "images").mkdir(parents=True)
    for name in {*reduced["imlist"], *reduced["qimlist"]}:
        (folder / "images" / f"{name}.jpg").symlink_to(source / "images" / f"{name}.jpg")
    (folder / "gnd.json").write_text(json.dumps(reduced))
    return folder
