"""Splits: disjoint by group, with related groups together, leaks told, and files that the other commands read."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.archive import LandmarkRow, PhotoRow, SplitOptions, publishing, split_dataset, write_split
from delf.archive.splitting import components
from delf.archive.tables import PAIRS, write_landmarks, write_photos
from delf.errors import DelfError, OptionError
from delf.evaluation import read_ground_truth, score
from delf.evaluation.recognition import read_landmarks as read_truth
from delf.grouping.carrying import VALUES
from delf.training.photos import read_photos

GROUPS, SIZE, ALONE = 12, 5, 8
HALF = SplitOptions(test=0.5, holdout=0.25)


def key(image: int) -> str:
    return hashlib.sha256(str(image).encode()).hexdigest()


def made(folder: Path, links: Sequence[tuple[int, int, float]] = (), landmark: str = "") -> Path:
    """A data set: image g * SIZE + i is of group g + 1, those after are in none. links: pairs beside those of groups.
    landmark: what a person says of the first group.
    """
    (folder / "in").mkdir(parents=True)
    rows, landmarks = [], []
    for image in range(GROUPS * SIZE + ALONE):
        file = folder / "in" / f"{image:03}.jpg"
        file.write_bytes(str(image).encode())
        group, place = divmod(image, SIZE)
        there = group < GROUPS
        latitude = 43.0 if image % 2 else 50.0  # of those in no group, half are near
        rows.append(PhotoRow(str(file), key(image), group + 1 if there else None, "alone" if not there else
                             "member" if place else "representative", latitude=43.0 if there else latitude,
                             longitude=5.0))
        if there and not place:
            landmarks.append(LandmarkRow(group + 1, "Bridge" if group == 1 else "", landmark if not group else "", SIZE,
                                         SIZE, str(file), 43.0, 5.0, 1))
    write_photos(folder, rows, {row.group: row.label for row in landmarks})
    write_landmarks(folder, landmarks)
    pairs = [(group * SIZE + one, group * SIZE + other, 0.97) for group in range(GROUPS)
             for one, other in combinations(range(4), 2)]
    ends = np.array([pair[:2] for pair in (*pairs, *links)], np.int64)
    sure = np.array([pair[2] for pair in (*pairs, *links)], np.float32)
    keys = np.array([list(bytes.fromhex(key(image))) for image in range(len(rows))], np.uint8)
    np.savez_compressed(folder / PAIRS, keys=keys, looked=np.ones(len(rows), bool), pairs=ends, judged_by="test",
                        inliers=np.full(len(ends), 40), **dict.fromkeys(VALUES, sure))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_sets_are_disjoint_by_group(tmp_path: Path) -> None:
    split = split_dataset(made(tmp_path / "set"), HALF)
    groups = {name: {row.group for row in split.of(name)} - {None} for name in ("train", "val", "holdout", "index")}
    assert [len(groups[name]) for name in ("train", "holdout", "index")] == [3, 3, 6]
    assert not groups["train"] & groups["holdout"] | (groups["train"] | groups["holdout"]) & groups["index"]
    assert groups["val"] <= groups["train"]
    assert {query.photo.group for query in split.queries if query.kind == "answerable"} == groups["index"]
    assert sum(split.sets[name] != "unused" for name in split.sets) == GROUPS * SIZE + ALONE
    assert split.leaks == ()
    again = split_dataset(tmp_path / "set", HALF)
    assert again.sets == split.sets
    assert split_dataset(tmp_path / "set", SplitOptions(test=0.5, holdout=0.25, seed=1)).sets != split.sets


def test_related_groups_stay_together_and_what_leaks_is_told(tmp_path: Path) -> None:
    for other in range(1, GROUPS):
        related = split_dataset(made(tmp_path / f"one{other}", [(0, other * SIZE, 0.9)]), HALF)
        of_group = {row.group: related.sets[one] for one, row in related.photos.items() if related.sets[one] != "query"}
        assert {of_group[1], of_group[other + 1]} in ({"train"}, {"train", "val"}, {"val"}, {"holdout"}, {"index"})
        assert not related.leaks
    links = [(0, other * SIZE, 0.7) for other in range(1, GROUPS)]
    leaking = split_dataset(made(tmp_path / "two", links), HALF)
    assert leaking.leaks
    for leak in leaking.leaks:
        assert {leak.first_set, leak.second_set} not in ({"train", "val"}, {"index", "query"})
    chained = [(one * SIZE, (one + 1) * SIZE, 0.9) for one in range(GROUPS - 1)]
    assert len(split_dataset(made(tmp_path / "three", chained), HALF).of("index")) > 0, "one family is none"


def test_queries_without_an_answer_verify_with_nothing(tmp_path: Path) -> None:
    first = GROUPS * SIZE
    links = [(image, 0, 0.4) for image in range(first, first + 2)]
    split = split_dataset(made(tmp_path / "set", links), HALF)
    silent = [query for query in split.queries if query.kind != "answerable"]
    assert {query.kind for query in silent} == {"near", "far"}
    assert all((query.photo.latitude == 43.0) == (query.kind == "near") for query in silent)
    assert not {key(first), key(first + 1)} & {query.photo.key for query in silent}
    assert not any(query.easy or query.hard for query in silent)
    for one in (key(first), key(first + 1)):  # may show what the first group does
        junk = any(one in query.junk for query in split.queries)
        assert split.sets[one] == ("index" if junk else "unused") or split.sets[key(0)] in ("index", "query")


def test_a_person_says_what_is_no_landmark(tmp_path: Path) -> None:
    split = split_dataset(made(tmp_path / "set", landmark="no"), HALF)
    assert {split.sets[key(image)] for image in range(SIZE)} == {"unused"}


def test_what_is_written_is_what_others_read(tmp_path: Path) -> None:
    split = split_dataset(made(tmp_path / "set"), HALF)
    out = write_split(split, tmp_path / "out", about={"licence": "CC-BY-4.0", "title": "Bridges"})
    truth = read_ground_truth(out / "gnd.json")
    assert truth.images is not None and truth.queries is not None
    assert len(truth.queries) == len(split.queries)
    for query, entry in zip(split.queries, truth.entries, strict=True):
        names = {key: name for key in split.photos for name in truth.images if key.startswith(name)}
        assert {truth.images[at] for at in entry.indices(("easy", "hard")).tolist()} == {
            names[one] for one in (*query.easy, *query.hard)}
    for name in (*truth.images, *truth.queries):
        assert key(int((out / "images" / f"{name}.jpg").read_text())).startswith(name), "links lead to the photos"
    landmarks = read_truth(out)
    assert set(landmarks.of_query) == set(truth.queries)
    assert landmarks.centres and set(landmarks.positions) == set(truth.queries)
    perfect = tmp_path / "perfect.csv"
    perfect.write_text("id,landmarks\n" + "".join(f"{name},{min(right)} 1.0\n" for name, right in
                                                  landmarks.of_query.items() if right))
    assert score(perfect, out / "recognition_solution.csv", "gld-recognition")["gap"] == pytest.approx(100)
    solution = table(out / "retrieval_solution.csv")
    perfect.write_text("id,images\n" + "".join(f"{row['id']},{row['images']}\n" for row in solution))
    assert score(perfect, out / "retrieval_solution.csv", "gld-retrieval")["map"] == pytest.approx(100)
    labelled = read_photos(out / "photos.csv")
    assert {(key(int(photo.path.read_text())), photo.split) for photo in labelled} == {
        (one, name) for one, name in split.sets.items() if name in ("train", "val", "holdout")}
    trained = read_photos(out / "train_clean.csv", out / "images")
    assert len(trained) == len(split.of("train", "val"))
    card = json.loads((out / "card.json").read_text())
    assert card["photos"]["train"] == len(split.of("train"))
    text = (out / "README.md").read_text()
    assert "license: CC-BY-4.0" in text and "# Bridges" in text


def test_a_folder_is_written_again_and_no_other_one(tmp_path: Path) -> None:
    split = split_dataset(made(tmp_path / "set"), HALF)
    out = write_split(split, tmp_path / "out")
    (out / "images" / "old.jpg").symlink_to(tmp_path / "nowhere")
    write_split(split, out, copy=True)
    files = list((out / "images").iterdir())
    assert len(files) == len(split.of("index", "query"))
    assert not any(file.is_symlink() for file in files)
    with pytest.raises(DelfError, match="holds other files"):
        write_split(split, tmp_path / "set")
    (tmp_path / "set" / "in" / f"{int(split.queries[0].photo.file[-7:-4]):03}.jpg").unlink()
    with pytest.raises(DelfError, match="is gone"):
        write_split(split, tmp_path / "third")


@pytest.mark.parametrize("copy", [True, False])
def test_photos_are_not_written_over_themselves(copy: bool, tmp_path: Path) -> None:
    """A data set may have been made of the photos of a benchmark, and then be split into the folder of that."""
    split = split_dataset(made(tmp_path / "set"), HALF)
    out = write_split(split, tmp_path / "out", copy=True)
    before = {path.name: path.read_bytes() for path in (out / "images").iterdir()}
    (tmp_path / "by another name").symlink_to(out)
    names = {path.stem: path for path in (tmp_path / "by another name/images").iterdir()}
    moved = {key: replace(row, file=str(names.get(key[:16], row.file))) for key, row in split.photos.items()}
    with pytest.raises(DelfError, match="is a photo of this data set and lies in"):
        write_split(replace(split, photos=moved), out, copy=copy)
    assert {path.name: path.read_bytes() for path in (out / "images").iterdir()} == before
    assert (out / "gnd.json").is_file(), "what was whole stays whole"


def test_a_photo_that_is_gone_leaves_the_old_benchmark_whole(tmp_path: Path) -> None:
    split = split_dataset(made(tmp_path / "set"), HALF)
    out = write_split(split, tmp_path / "out", copy=True)
    before = {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    Path(split.of("index")[0].file).unlink()
    with pytest.raises(DelfError, match="is gone"):
        write_split(split, out)
    assert {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_cut_short_it_is_no_benchmark_and_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_dataset(made(tmp_path / "set"), HALF)
    whole = write_split(split, tmp_path / "whole")
    wanted = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    for writer in ("_put", "_write_training", "_write_index", "_write_queries", "card_text", "_write_truth"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(publishing, writer, interrupted)
            write_split(split, tmp_path / "out")
        assert not (tmp_path / "out" / "gnd.json").exists()
    (tmp_path / "out" / "images" / "mine.jpg").write_bytes(b"somebody put it there")
    (tmp_path / "out" / "images" / "more").mkdir()
    write_split(split, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == wanted
    assert (tmp_path / "out" / "images" / "mine.jpg").exists(), "what is not ours stays"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_too_few_groups_and_no_pairs_are_told(tmp_path: Path) -> None:
    folder = made(tmp_path / "set")
    with pytest.raises(DelfError, match="of 12 groups 0 have 6 different photos"):
        split_dataset(folder, SplitOptions(minimum=6))
    (folder / PAIRS).unlink()
    with pytest.raises(DelfError, match=r"no pairs\.npz"):
        split_dataset(folder)
    with pytest.raises(DelfError, match="no data set"):
        split_dataset(tmp_path / "absent")
    for wrong in ({"test": 0.9, "holdout": 0.2}, {"minimum": 1}, {"silent": 0.9}):
        with pytest.raises(OptionError, match="not"):
            SplitOptions(**wrong)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 14), st.integers(0, 30))
def test_components_are_those_of_networkx(seed: int, images: int, edges: int) -> None:
    graph = nx.gnm_random_graph(images, min(edges, images * (images - 1) // 2), seed=seed)
    listed = sorted(tuple(sorted((3 * a, 3 * b))) for a, b in graph.edges)
    labels = components(*np.array(listed, np.int64).reshape(-1, 2).T)
    for part in nx.connected_components(graph):
        assert {label for (one, _), label in zip(listed, labels.tolist(), strict=True) if one // 3 in part} <= {
            3 * min(part)}
