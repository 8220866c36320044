"""How long it takes to look up a condition (`delf.collection.where`) in the catalogue of a large collection.

    python benchmarks/conditions.py [IMAGES]

The catalogue is made up: a million images by default, in 3,000 folders, of 50 cameras, one in ten with metadata.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from delf.collection.catalogue import Catalogue
from delf.collection.records import FileRecord, ImageRecord
from delf.collection.where import parse_where

SEGMENT = 16384
CONDITIONS = ("date >= 2019-06", "not date = 2010", "camera contains canon", "place within 20 km of 41.89,12.49",
              "album = a7 and stars >= 3", "folder = album17", "name contains 999")
ABOUT = {"model": {"name": "none", "fingerprint": "0"}, "options": {"dimensions": 1}}


def key(number: int) -> bytes:
    """The made-up content of an image."""
    return hashlib.sha256(str(number).encode()).digest()


def images(start: int, stop: int) -> Iterator[tuple[ImageRecord, list[FileRecord]]]:
    """Made-up images, each with a file."""
    for i in range(start, stop):
        taken = f"{2000 + i % 25}-0{1 + i % 9}-1{i % 9}T10:00:00"
        name = f"Pictures/{2000 + i % 25}/album{i % 3000}/IMG_{i}.jpg".encode()
        yield (ImageRecord(key(i), 4000, 3000, taken, 40 + i % 1000 / 100, 10 + i % 777 / 100, f"Canon EOS {i % 50}"),
               [FileRecord(b"/home/me/" + name, name, 5_000_000, i)])


def main(count: int) -> None:
    """Make the catalogue, and look up each condition once."""
    with tempfile.TemporaryDirectory() as folder, Catalogue.create(Path(folder), ABOUT) as catalogue:
        for number, start in enumerate(range(0, count, SEGMENT)):
            catalogue.publish(f"{number:032x}", 0, images(start, min(count, start + SEGMENT)))
        catalogue.describe({key(i): json.dumps({"album": f"a{i % 100}", "stars": i % 7}) for i in range(0, count, 10)})
        for condition in CONDITIONS:
            begin = time.process_time()
            found = sum(positions.count(",") + 1 for _, positions in catalogue.matching(parse_where(condition)))
            print(f"{condition:40}{time.process_time() - begin:8.2f} s{found:>12,} images")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
