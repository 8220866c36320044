"""A benchmark folder that is a small part of a large one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import pytest

from delf.images import read_image

SHARED = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[3] / "shared"))
QUERIES, SHOWN, DISTRACTORS = (25, 43), 4, 6  # SHOWN: of each kind, easy and hard
SMALLER = 2  # times, in each direction: a quarter of the work


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two queries of a benchmark of landmarks, some images that show them, and some that do not."""
    source = SHARED / "data" / "bench" / "provence"
    if not source.is_dir():
        pytest.skip(f"there are no benchmark photos in {source}; DELF_SHARED says where they are")
    truth = json.loads((source / "gnd.json").read_text())
    entries = [{**truth["gnd"][number], "junk": [], "bbx": [side / SMALLER for side in truth["gnd"][number]["bbx"]],
                **{key: truth["gnd"][number][key][:SHOWN] for key in ("easy", "hard")}} for number in QUERIES]
    shown = {image for entry in entries for key in ("easy", "hard") for image in entry[key]}
    hidden = {image for number in QUERIES for key in ("easy", "hard", "junk") for image in truth["gnd"][number][key]}
    others = sorted(set(range(len(truth["imlist"]))) - hidden)
    kept = sorted({*shown, *others[:: len(others) // DISTRACTORS]})
    place = {image: number for number, image in enumerate(kept)}
    reduced = {"imlist": [truth["imlist"][image] for image in kept],
               "qimlist": [truth["qimlist"][number] for number in QUERIES],
               "gnd": [{**entry, **{key: [place[image] for image in entry[key]] for key in ("easy", "hard")}}
                       for entry in entries]}
    folder = tmp_path_factory.mktemp("bench") / "small"
    (folder / "images").mkdir(parents=True)
    for name in {*reduced["imlist"], *reduced["qimlist"]}:
        pixels = read_image(source / "images" / f"{name}.jpg")
        size = (pixels.shape[1] // SMALLER, pixels.shape[0] // SMALLER)
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    (folder / "gnd.json").write_text(json.dumps(reduced))
    return folder
