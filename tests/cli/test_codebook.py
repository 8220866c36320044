"""`delf codebook`: words from photos, from a collection, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from delf.cli.codebook import codebook
from delf.collection import Collection
from delf.errors import CollectionError, DelfError, ImageError
from delf.index import Codebook
from delf.indexing import training_sample
from delf.retrieval.words import WordOptions, find_codebook

Draw = Callable[..., Path]


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Draw) -> Iterator[Collection]:
    """Six drawings, 120 features."""
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add([draw(f"drawings/{seed}.png", seed) for seed in range(6)])
        yield collection


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, make_stub: Any) -> None:
    """Features that take no time."""
    monkeypatch.setattr("delf.cli.codebook.load_any", lambda *_, **__: make_stub())


def test_words_of_a_collection(drawn: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codebook([drawn.folder], tmp_path / "a.words", words=5, iterations=3, seed=4)
    made = Codebook.load(tmp_path / "a.words")
    again = Codebook.train(training_sample(drawn, 320), made.options)
    assert (len(made), made.fingerprint, made.options.seed) == (5, again.fingerprint, 4)
    assert capsys.readouterr().out == (f"{tmp_path}/a.words: 5 words of 16 dimensions, learnt from 120 descriptors; "
                                       f"fingerprint {made.fingerprint[:16]}\n")
    found = find_codebook(drawn, options=WordOptions(file=tmp_path / "a.words"))
    assert (found.learnt, found.codebook.fingerprint) == (False, made.fingerprint)


def test_words_of_photos(drawn: Collection, tmp_path: Path, stub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drawings" / "broken.png").write_bytes(b"no picture")
    codebook([tmp_path / "drawings"], tmp_path / "a.words", words=5, json=True)
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["words"], facts["dimensions"], facts["descriptors"]) == (5, 16, 120)
    [skipped] = facts["skipped"]
    assert "broken.png" in skipped
    assert "Skipped 1 file" in err
    made = Codebook.load(tmp_path / "a.words")
    assert (made.model, made.fingerprint) == (stub.fingerprint, facts["fingerprint"])
    with pytest.raises(typer.Exit) as end:
        codebook([tmp_path / "drawings"], tmp_path / "a.words", words=5, json=True, strict=True)
    assert end.value.exit_code == 1
    assert json.loads(capsys.readouterr().out) == facts, "the same photos give the same words"


@pytest.mark.parametrize(("options", "descriptors"), [({"photos_limit": 2}, 40), ({"sample": 18}, 18),
                                                      ({"photos_limit": 3, "sample": 30}, 30)])
def test_less_of_the_photos(drawn: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                            options: dict[str, int], descriptors: int) -> None:
    codebook([tmp_path / "drawings"], tmp_path / "a.words", json=True, **options)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["descriptors"], facts["words"]) == (descriptors, descriptors // 16)


def test_what_cannot_be_learnt_from_or_written(drawn: Collection, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for source, target, error in ((tmp_path / "nothing", "a.words", CollectionError),
                                  (tmp_path / "missing", "a.words", ImageError),
                                  (drawn.folder, "no/folder/a.words", DelfError)):
        with pytest.raises(error):
            codebook([source], tmp_path / target)
        assert not (tmp_path / target).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"nothing", "drawings", "places.delf"}
