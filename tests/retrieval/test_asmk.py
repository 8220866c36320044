"""ASMK* on a collection: what it finds, which words it uses, and the life of its lists."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.codes import decode, encode
from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.index import DETECT_TO_RETRIEVE, HOW, RADENOVIC_2018, Codebook, CodebookOptions
from delf.ranking import CHANCE, SupportOptions
from delf.retrieval import asmk as module
from delf.retrieval import lists as making
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.words import WordOptions, find_codebook, sample_of
from delf.types import Features, Matches, Verification

Draw = Callable[..., Path]
FEW = WordOptions(learn=CodebookOptions(words=6, iterations=3))  # words that 120 features of six drawings can teach


@pytest.fixture
def folder(tmp_path: Path, stub: Any, draw: Draw) -> Path:
    """A collection of six drawings in three segments."""
    with Collection.create(tmp_path / "places.delf", stub) as made:
        made.add([draw(f"{seed}.png", seed) for seed in range(6)], images_per_segment=2)
    return tmp_path / "places.delf"


@pytest.fixture
def drawn(folder: Path) -> Iterator[Collection]:
    with Collection.open(folder) as opened:
        yield opened


@pytest.fixture
def query(drawn: Collection) -> Features:
    return drawn.features(3)


def ranked(retriever: AsmkRetriever, query: Features, collection: Collection) -> list[tuple[int, float]]:
    found = retriever.candidates(query, collection.alive)
    return list(zip(found.images.tolist(), found.scores.tolist(), strict=True))


def lists(folder: Path) -> list[Path]:
    return sorted(folder.glob("segments/*/asmk-*.lists"))


# --- what it finds


@pytest.mark.parametrize("options", [HOW, DETECT_TO_RETRIEVE, RADENOVIC_2018], ids=["how", "d2r", "radenovic"])
def test_photos_are_found(collection: Collection, query_features: dict[str, Features], queries: dict[str, Any],
                          options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.models.finding.PACKAGED", tmp_path)  # so that words are learnt
    shutil.copytree(collection.folder, tmp_path / "copy.delf")
    learn = CodebookOptions(words=256, iterations=5)
    with Collection.open(tmp_path / "copy.delf") as opened:
        retriever = AsmkRetriever(opened, AsmkRetrieval(options, WordOptions(learn=learn)))
        assert retriever.learnt
        for name, query in queries.items():
            found = retriever.candidates(query_features[name], opened.alive)
            assert opened.image(int(found.images[0])).path in query.transforms, name
            assert (np.diff(found.scores) <= 0).all()
            assert (found.images.dtype, found.scores.dtype) == (np.int64, np.float32)


def test_what_is_not_alive_is_not_found(drawn: Collection, query: Features) -> None:
    retriever = AsmkRetriever(drawn, AsmkRetrieval(DETECT_TO_RETRIEVE, FEW))
    assert ranked(retriever, query, drawn)[0][0] == 3
    alive = drawn.alive.copy()
    alive[3] = False
    found = retriever.candidates(query, alive)
    assert 3 not in found.images
    assert len(found) > 0
    assert len(retriever.candidates(query, np.zeros(6, bool))) == 0


def test_segments_do_not_matter(folder: Path, drawn: Collection, query: Features) -> None:
    apart = ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn)
    assert len(lists(folder)) == 3
    drawn.compact()
    assert len(drawn.segments) == 1
    assert lists(folder) == []  # they went with their segments
    assert ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn) == apart
    assert len(lists(folder)) == 1


def test_an_empty_collection(tmp_path: Path, stub: Any, query: Features) -> None:
    with Collection.create(tmp_path / "empty.delf", stub) as empty:
        retriever = AsmkRetriever(empty, AsmkRetrieval())
        assert len(retriever.candidates(query, empty.alive)) == 0
        assert not retriever.learnt
        with pytest.raises(CollectionError, match="give photos with features"):
            find_codebook(empty)


# --- with support


def test_confirmed_images_speak_for_others(drawn: Collection, query: Features) -> None:
    asked = AsmkRetrieval(DETECT_TO_RETRIEVE, FEW, support=SupportOptions(gain=0.5, inliers=CHANCE, range=50))
    retriever = AsmkRetriever(drawn, asked)
    found = retriever.candidates(query, drawn.alive)
    sure, unsure = found.images[:2].tolist()
    verified = [(sure, verification(CHANCE + 25)), (unsure, verification(CHANCE))]
    again = retriever.expanded(query, found, verified, drawn.alive)
    assert again is not None
    own = retriever.candidates(drawn.features(sure), drawn.alive)
    before, said = (dict(zip(one.images.tolist(), one.scores.tolist(), strict=True)) for one in (found, own))
    said[sure] = 0.0  # nobody else speaks for it
    assert dict(zip(again.images.tolist(), again.scores.tolist(), strict=True)) == pytest.approx(
        {image: before.get(image, 0.0) + 0.5 * 0.5 * said.get(image, 0.0) for image in before.keys() | said.keys()})
    assert retriever.expanded(query, found, verified[1:], drawn.alive) is None
    worth = [verified[0], (unsure, replace(verification(CHANCE), worth=1.25))]
    same = retriever.expanded(query, found, worth, drawn.alive)
    assert same is not None and np.array_equal(same.scores, again.scores), "so few say nothing, whatever they are worth"
    assert AsmkRetriever(drawn, AsmkRetrieval(DETECT_TO_RETRIEVE, FEW)).expanded(query, found, verified,
                                                                                 drawn.alive) is None
    alive = drawn.alive.copy()
    alive[unsure] = False
    dead = retriever.expanded(query, found, verified, alive)
    assert dead is not None and unsure not in dead.images


def verification(inliers: int) -> Verification:
    rows = np.arange(inliers)
    return Verification(np.column_stack([rows, rows]), np.eye(3), Matches(rows, rows, np.ones(inliers, np.float32)))


# --- which words


def test_words_are_learnt_once(folder: Path, drawn: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_codebook(drawn, options=FEW)
    assert (found.learnt, len(found.codebook), found.codebook.model) == (True, 6, "00112233445566778899")
    [path] = folder.glob("words-*")
    assert path.name == f"words-{found.codebook.fingerprint[:16]}.words"
    assert drawn.bytes_by_kind()["words"] == path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(Codebook, "train", None)
        assert find_codebook(drawn, options=FEW).codebook.fingerprint == found.codebook.fingerprint
    path.write_bytes(path.read_bytes()[:-1])  # damaged
    assert find_codebook(drawn, options=FEW).codebook.fingerprint == found.codebook.fingerprint
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # damaged, and its size does not show it
    assert find_codebook(drawn, options=FEW).codebook.fingerprint == found.codebook.fingerprint
    assert path.read_bytes() == content
    other = WordOptions(learn=CodebookOptions(words=6, iterations=3, seed=1))
    assert find_codebook(drawn, options=other).codebook.fingerprint != found.codebook.fingerprint
    assert len(list(folder.glob("words-*"))) == 2


def test_where_nothing_can_be_written_words_are_learnt_all_the_same(drawn: Collection, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    drawn.folder = tmp_path / "gone"
    assert len(find_codebook(drawn, options=FEW).codebook) == 6
    assert not (tmp_path / "gone").exists()


def test_a_collection_that_has_grown_learns_anew(tmp_path: Path, stub: Any, draw: Draw) -> None:
    with Collection.create(tmp_path / "places.delf", stub) as growing:
        growing.add([draw("0.png", 0), draw("1.png", 1)])
        AsmkRetriever(growing, AsmkRetrieval())
        [old], [made] = growing.folder.glob("words-*"), lists(growing.folder)
        assert len(Codebook.load(old)) == 2  # of 40 features
        growing.add([draw(f"{seed}.png", seed) for seed in range(2, 6)])
        AsmkRetriever(growing, AsmkRetrieval())
        assert list(growing.folder.glob("words-*")) == [old], "7 words are less than four times as many"
        growing.add([draw(f"{seed}.png", seed) for seed in range(6, 8)])
        assert find_codebook(growing).learnt
        [new] = growing.folder.glob("words-*")
        assert len(Codebook.load(new)) == 10
        assert not made.exists()
        assert lists(growing.folder) == []


def test_the_words_of_the_model_come_first(drawn: Collection, tmp_path: Path, stub: Any,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    sample = decode(encode(np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)))
    packaged = Codebook.train(sample, CodebookOptions(words=5), model=stub.fingerprint)
    packaged.save(tmp_path / "model.words")
    for suffix in (".onnx", ".safetensors"):
        found = find_codebook(drawn, tmp_path / f"model{suffix}", FEW)
        assert (found.learnt, found.codebook.fingerprint) == (False, packaged.fingerprint)
    assert not AsmkRetriever(drawn, AsmkRetrieval(words=FEW, model=tmp_path / "model.onnx")).learnt
    package = tmp_path / "packaged"
    package.mkdir()
    monkeypatch.setattr("delf.models.finding.PACKAGED", package)
    assert find_codebook(drawn, options=FEW).learnt, "there are no packaged words"
    packaged.save(package / "stub.words")
    assert not find_codebook(drawn, options=FEW).learnt
    for model in ("packaged/stub-int8.onnx", "hub/stub.onnx"):
        assert not find_codebook(drawn, tmp_path / model, FEW).learnt, "another file of the model shares them"
    for other in (Codebook(packaged.words, model="another"), Codebook(packaged.words[:, :8], model=stub.fingerprint)):
        other.save(package / "stub.words")
        assert find_codebook(drawn, options=FEW).learnt


def test_a_codebook_that_is_asked_for(drawn: Collection, tmp_path: Path, stub: Any) -> None:
    words, path = np.eye(16, dtype=np.float32), tmp_path / "mine.words"
    for model in ("", stub.fingerprint):
        Codebook(words, model=model).save(path)
        found = find_codebook(drawn, options=WordOptions(file=path))
        assert (found.learnt, len(found.codebook)) == (False, 16)
    for other, said in ((Codebook(words[:, :9]), "have 9 dimensions, and the descriptors of .* 16"),
                        (Codebook(words, model="another"), "of another model than .*, which was made with stub")):
        other.save(path)
        with pytest.raises(CollectionError, match=said):
            find_codebook(drawn, options=WordOptions(file=path))
    with pytest.raises(CollectionError, match=r"missing\.words cannot be read"):
        find_codebook(drawn, options=WordOptions(file=tmp_path / "missing.words"))
    with pytest.raises(OptionError, match="sample"):
        WordOptions(sample=0)


def test_a_sample_of_every_image() -> None:
    images = [np.eye(8, dtype=np.float32)[:count] for count in (0, 3, 8)]
    sample = sample_of(iter(images), 4)
    assert sample.shape == (3 + 4, 8)
    np.testing.assert_array_equal(sample[:3], images[1])
    assert len(np.unique(sample[3:], axis=0)) == 4
    np.testing.assert_array_equal(sample, sample_of(images, 4))
    assert not np.array_equal(sample, sample_of(images, 4, seed=5))
    assert sample_of([], 4).shape == (0, 0)


# --- the life of the lists


def test_lists_are_made_once_and_progress_is_told(folder: Path, drawn: Collection, query: Features,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    options = AsmkRetrieval(words=FEW)
    first = AsmkRetriever(drawn, options, progress=lambda *done: calls.append(done))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert drawn.bytes_by_kind()["asmk"] == sum(path.stat().st_size for path in lists(folder))
    monkeypatch.setattr(making, "_made", None)
    again = AsmkRetriever(drawn, AsmkRetrieval(DETECT_TO_RETRIEVE, FEW), progress=lambda *done: calls.append(done))
    assert len(calls) == 4, "only what is stored matters: the lists are the same"
    assert ranked(again, query, drawn)[0][0] == 3
    assert ranked(first, query, drawn) != ranked(again, query, drawn)


def test_each_kind_of_signatures_has_lists_of_its_own(folder: Path, drawn: Collection) -> None:
    for options in (HOW, RADENOVIC_2018):
        AsmkRetriever(drawn, AsmkRetrieval(options, FEW))
    assert len(lists(folder)) == 6
    assert len(list(folder.glob("segments/*/asmk-*-medians.lists"))) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "of another segment"])
def test_lists_that_do_not_fit_are_made_anew(folder: Path, drawn: Collection, query: Features, stub: Any, draw: Draw,
                                             damage: str) -> None:
    before = ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn)
    made = lists(folder)
    path = made[1]
    whole = path.read_bytes()
    if damage == "of another segment":
        with Collection.open(folder, stub) as other:
            other.add([draw("more.png", 77)])
            AsmkRetriever(other, AsmkRetrieval(words=FEW))
            [new] = set(lists(folder)) - set(made)
            shutil.copy(new, path)
    else:
        path.write_bytes({"cut": whole[:-2], "empty": b"", "foreign": b"x" * len(whole)}[damage])
    assert ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn) == before
    assert path.read_bytes() == whole


def test_a_collection_that_cannot_be_written_has_its_lists_elsewhere(
        folder: Path, drawn: Collection, query: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn)
    for path in lists(folder):
        path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(making.tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(module, "lists_of", lambda segment, asmk: tmp_path / "no" / "folder" / "a.lists")
    retriever = AsmkRetriever(drawn, AsmkRetrieval(words=FEW))
    assert ranked(retriever, query, drawn) == before
    assert lists(folder) == []
    [temporary] = elsewhere.iterdir()
    assert len(list(temporary.iterdir())) == 3
    del retriever
    gc.collect()
    assert list(elsewhere.iterdir()) == []
    monkeypatch.setattr(making.tempfile, "tempdir", str(elsewhere / "full"))
    with pytest.raises(CollectionError, match=r"neither there nor to a temporary folder .*make room on the disk"):
        AsmkRetriever(drawn, AsmkRetrieval(words=FEW))


def test_segments_that_another_process_merged_are_searched_to_the_end(folder: Path, drawn: Collection,
                                                                      query: Features) -> None:
    with Collection.open(folder) as other:
        retriever = AsmkRetriever(drawn, AsmkRetrieval(words=FEW))
        before = ranked(retriever, query, drawn)
        other.compact()
        assert not any(segment.folder.exists() for segment in drawn.segments)
        assert ranked(retriever, query, drawn) == before
        late = AsmkRetriever(drawn, AsmkRetrieval(words=FEW))  # still of the state before
        assert ranked(late, query, drawn) == before
        assert ranked(AsmkRetriever(other, AsmkRetrieval(words=FEW)), query, other) == before


def test_what_torn_runs_left_is_removed(folder: Path, drawn: Collection) -> None:
    AsmkRetriever(drawn, AsmkRetrieval(words=FEW))
    token, segment = "0123456789abcdef" * 2, drawn.segments[0].folder
    torn = [folder / f"{token}.partial", folder / f"{token}.partial.partial", segment / f"{token}.partial",
            segment / f"{token}.partial.partial", segment / f"{token}.partial.spill"]
    for path in torn:
        path.touch()
    mine = folder / "mine.partial"
    mine.touch()
    with drawn.writing():
        assert not any(path.exists() for path in torn)
    assert mine.exists()
    assert len(lists(folder)) == 3
    assert len(list(folder.glob("words-*"))) == 1


@pytest.mark.parametrize("name", ["words-*.words", "segments/*/asmk-*.lists"])
def test_a_check_reads_words_and_lists(folder: Path, drawn: Collection, query: Features, name: str) -> None:
    before = ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn)
    assert check_collection(folder).problems == ()
    path = min(folder.glob(name))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [problem] = check_collection(folder).problems
    assert path.name in problem
    report = check_collection(folder, repair=True)
    assert report.problems == ()
    assert "It was deleted: the next search that needs it makes it anew" in report.repaired[0]
    assert not path.exists()
    assert check_collection(folder).problems == ()
    assert ranked(AsmkRetriever(drawn, AsmkRetrieval(words=FEW)), query, drawn) == before
    assert path.read_bytes() == content


def test_a_check_does_not_miss_what_a_search_has_just_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glob = Path.glob

    def with_one_that_goes(path: Path, pattern: str) -> list[Path]:  # listed, and not there when it is read
        return [*glob(path, pattern), *([path / "words-0123.words"] if pattern == "words-*.words" else [])]

    monkeypatch.setattr(Path, "glob", with_one_that_goes)
    assert check_collection(folder).problems == ()
