"""A data set that is split, as a folder: the CSV files of Google Landmarks, the ground truth of `delf evaluate`,
labelled photos for `delf train`, and a card that says where all came from.

    images/ID.jpg                 photos of the index and queries, as links, or copies
    gnd.json                      which photos of the index show what a query does
    photos.csv                    file,class,split of what is learnt from: `delf train --data`
    train.csv, train_clean.csv    id,url,landmark_id and landmark_id,images, of version 1 and 2
    index.csv, test.csv           id,url, of the index and of queries (version 1)
    index_image_to_landmark.csv   id,landmark_id (version 2)
    recognition_solution.csv      id,landmarks,Usage (version 2)
    retrieval_solution.csv        id,images,Usage (version 2)
    queries.csv, landmarks.csv    kinds of queries, positions, names: what the protocol `landmarks` reads
    leaks.csv                     verified pairs across sets that should have nothing in common
    README.md, card.json          the card

An ID is the first 16 hexadecimal digits of the SHA-256 of a photo, so that it is the same in every data set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from delf.archive.card import card_of, card_text
from delf.archive.splitting import Split
from delf.archive.tables import PhotoRow
from delf.duplicates.table import write_table
from delf.errors import DelfError
from delf.files import replacing, write_atomically
from delf.images import display_path

CARD, TRUTH = "card.json", "gnd.json"
SHORT = 16  # digits of an ID
_ID = re.compile(r"[0-9a-f]{16,64}")
PUBLIC = 3  # one query of so many is Public, the others are Private

Progress = Callable[[int, int], None]


def write_split(split: Split, folder: str | Path, *, copy: bool = False, about: Mapping[str, Any] | None = None,
                progress: Progress = lambda done, total: None) -> Path:
    """Write a data set into a new folder, or over the one that was written there before.

    The ground truth is written last: what was cut short is no benchmark, and the same call makes it whole.

    Args:
        copy: whether images/ has the photos themselves; else links to where they are. about: what the card says beside
            what the split knows: title, licence, source.
        progress: called with (photos done, photos to do) of images/.

    Raises:
        DelfError: the folder holds something else, or photos of this data set; a photo is gone; or the place cannot be
            written. Nothing was changed in the first three cases.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / CARD).is_file() or not any(folder.iterdir()))):
        raise DelfError(f"{display_path(folder)} holds other files: name a new folder, or one that was split before")
    _require_photos(split, folder)
    names = short_names(split)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    card = card_of(split, about or {})
    write_atomically(folder / CARD, f"{json.dumps(card, indent=1)}\n".encode())  # which says that the folder is ours
    (folder / TRUTH).unlink(missing_ok=True)
    _write_images(split, folder / "images", names, copy, progress)
    _write_training(split, folder, names)
    _write_index(split, folder, names)
    _write_queries(split, folder, names)
    write_atomically(folder / "README.md", card_text(card).encode("utf-8", "surrogateescape"))
    _write_truth(split, folder, names)
    return folder


def short_names(split: Split) -> dict[str, str]:
    """The ID of each photo by its key: as many digits as it takes to tell all apart, 16 at least."""
    length = next(length for length in range(SHORT, 65) if len({key[:length] for key in split.photos}) == len(
        split.photos))
    return {key: key[:length] for key in split.photos}


def _require_photos(split: Split, folder: Path) -> None:
    """Make sure that the photos are there, and that none of them would be replaced by a link to itself, or deleted."""
    images = os.path.realpath(folder / "images")
    for row in split.photos.values():
        if os.path.realpath(row.file).startswith(f"{images}{os.sep}"):
            raise DelfError(f"{display_path(row.file)} is a photo of this data set and lies in {display_path(images)}, "
                            "which is written anew: name another folder")
    for row in split.of("index", "query"):
        if not Path(row.file).is_file():
            raise DelfError(f"{display_path(row.file)} is gone: run 'delf dataset build' with the photos again, with "
                            "--prune, from the folder in which you are now")


def _write_images(split: Split, folder: Path, names: Mapping[str, str], copy: bool, progress: Progress) -> None:
    rows = split.of("index", "query")
    wanted = {f"{names[row.key]}{Path(row.file).suffix.lower()}": Path(row.file) for row in rows}
    for path in folder.iterdir():
        ours = path.is_symlink() or (path.is_file() and _ID.fullmatch(path.stem))
        if ours and (path.name not in wanted or path.is_symlink()):  # of another split, or of photos that have moved
            path.unlink()
    for done, (name, source) in enumerate(wanted.items(), start=1):
        _put(source, folder / name, copy)
        progress(done, len(wanted))


def _put(source: Path, target: Path, copy: bool) -> None:
    if not copy:
        try:
            target.unlink(missing_ok=True)
            target.symlink_to(source.absolute())
            return
        except OSError:  # a system or a disk without links
            pass
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _write_training(split: Split, folder: Path, names: Mapping[str, str]) -> None:
    rows = split.of("train", "val", "holdout")
    write_table(folder / "photos.csv", ("file", "class", "split"),
                ((str(Path(row.file).absolute()), _label(split, row), split.sets[row.key]) for row in rows))
    learnt = split.of("train", "val")
    write_table(folder / "train.csv", ("id", "url", "landmark_id"),
                ((names[row.key], row.file, row.group) for row in learnt))
    groups: dict[int, list[str]] = defaultdict(list)
    for row in learnt:
        groups[row.group or 0].append(names[row.key])
    write_table(folder / "train_clean.csv", ("landmark_id", "images"),
                ((number, " ".join(images)) for number, images in sorted(groups.items())))


def _write_index(split: Split, folder: Path, names: Mapping[str, str]) -> None:
    rows = split.of("index")
    write_table(folder / "index.csv", ("id", "url"), ((names[row.key], row.file) for row in rows))
    write_table(folder / "index_image_to_landmark.csv", ("id", "landmark_id"),
                ((names[row.key], row.group) for row in rows if row.group is not None))
    asked = {row.group for row in split.of("index", "query")}
    write_table(folder / "landmarks.csv", ("landmark_id", "name", "latitude", "longitude"),
                ((number, row.name, _cell(row.latitude), _cell(row.longitude))
                 for number, row in sorted(split.landmarks.items()) if number in asked))


def _write_truth(split: Split, folder: Path, names: Mapping[str, str]) -> None:
    index = [names[row.key] for row in split.of("index")]
    places = {name: place for place, name in enumerate(index)}

    def numbers(keys: Sequence[str]) -> list[int]:
        return sorted(places[names[key]] for key in keys)

    truth = {"imlist": index, "qimlist": [names[query.photo.key] for query in split.queries],
             "gnd": [{"easy": numbers(query.easy), "hard": numbers(query.hard), "junk": numbers(query.junk)}
                     for query in split.queries]}
    write_atomically(folder / TRUTH, f"{json.dumps(truth)}\n".encode())


def _write_queries(split: Split, folder: Path, names: Mapping[str, str]) -> None:
    ids = [(names[query.photo.key], query) for query in split.queries]
    write_table(folder / "test.csv", ("id", "url"), ((name, query.photo.file) for name, query in ids))
    write_table(folder / "recognition_solution.csv", ("id", "landmarks", "Usage"),
                ((name, _cell(query.photo.group), _usage(query.photo.key)) for name, query in ids))
    write_table(folder / "retrieval_solution.csv", ("id", "images", "Usage"), (
        (name, " ".join(sorted(names[key] for key in (*query.easy, *query.hard))) or "None",
         _usage(query.photo.key) if query.easy or query.hard else "Ignored") for name, query in ids))
    write_table(folder / "queries.csv", ("id", "kind", "landmark_id", "latitude", "longitude", "file"),
                ((name, query.kind, _cell(query.photo.group), _cell(query.photo.latitude),
                  _cell(query.photo.longitude), query.photo.file) for name, query in ids))
    write_table(folder / "leaks.csv", ("first", "second", "first_set", "second_set", "probability", "inliers"),
                ((leak.first, leak.second, leak.first_set, leak.second_set, round(leak.probability, 4), leak.inliers)
                 for leak in split.leaks))


def _label(split: Split, row: PhotoRow) -> str:
    return split.landmarks[row.group].label if row.group is not None else ""


def _usage(key: str) -> str:
    return "Public" if int(key[-8:], 16) % PUBLIC == 0 else "Private"


def _cell(value: Any) -> Any:
    return "" if value is None else value


