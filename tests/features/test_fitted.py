"""How sure an extractor of someone's own may be: a file that is named with it, and with no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delf.errors import CollectionError, ModelError, OptionError
from delf.extractors import judged_by
from delf.features import Delf, load_named, load_shipped
from delf.features.fitted import Fitted, read_fitted, write_fitted

FITTED = Fitted({"inliers": 2.5, "intercept": -9.0}, {"inliers": 1.5, "words": 3.0, "intercept": -8.0})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_fitted(tmp_path / "sift.json", load_named("rootsift"), FITTED)
    return tmp_path / "sift.json"


def test_an_extractor_is_judged_by_the_file_that_is_named_with_it(file: Path) -> None:
    plain, judged = load_named("rootsift"), load_named("rootsift", probability=file)
    assert judged.identity == plain.identity, "so collections go on to fit"
    assert (judged.weights(), judged.weights(by_words=True)) == (FITTED.probability, FITTED.by_words)
    assert plain.weights() != judged.weights()
    assert load_named("rootsift", probability=str(file), max_features=50).weights() == FITTED.probability


def test_a_file_of_another_extractor_is_refused(file: Path) -> None:
    with pytest.raises(ModelError, match=r"was fitted for 'rootsift' .* and not for 'mine' with 'v1'"):
        read_fitted(file, {"name": "mine", "fingerprint": "v1"})
    with pytest.raises(OptionError, match="knows by itself how sure it may be"):
        judged_by(Delf.load(threads=1), lambda by_words: {})


@pytest.mark.parametrize("change", [
    lambda said: said.pop("model"), lambda said: said.update(probability=[1]),
    lambda said: said.update(probability={"inliers": "many"}), lambda said: said.update(model="rootsift"),
    lambda said: said.update(probability_by_words={"inliers": float("nan")})])
def test_a_damaged_file_is_a_sentence(file: Path, change: Any) -> None:
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))
    with pytest.raises(ModelError, match=r"sift\.json .*(damaged|no weights)"):
        load_named("rootsift", probability=file)


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff\xfe", b"[" * 90_000, b" " * 200_000])
def test_any_bytes_are_a_sentence(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_named("rootsift", probability=file)
    with pytest.raises(ModelError, match="cannot be read"):
        load_named("rootsift", probability=file.with_name("no.json"))


def test_no_collection_names_such_a_file(file: Path) -> None:
    about = {"model": {"name": "rootsift", "fingerprint": "v1"}, "options": {"dimensions": 128,
                                                                             "probability": str(file)}}
    with pytest.raises(CollectionError, match="cannot set threads, device and probability"):
        load_shipped(about, file.parent)
    about["options"].pop("probability")  # type: ignore[attr-defined]
    assert load_shipped(about, file.parent, probability=file).weights() == FITTED.probability
