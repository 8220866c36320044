"""Options of search methods by dotted names."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import pytest

import delf
from delf.cli.options import extraction_options
from delf.errors import OptionError
from delf.features.options import ExtractionOptions
from delf.looks import TurningOptions
from delf.methods import METHODS, method_options
from delf.settings import parse_settings, part_of, with_settings


def test_words_become_values() -> None:
    words = ["candidates=5", "verification.verifier=affine", "screening=null", "matching.ratio=0.85", "sure_first=true",
             "turning.angles=[[90, 180]]", "a=b=c", "empty="]
    assert parse_settings(words) == {"candidates": 5, "verification.verifier": "affine", "screening": None,
                                     "matching.ratio": 0.85, "sure_first": True, "turning.angles": [[90, 180]],
                                     "a": "b=c", "empty": ""}


@pytest.mark.parametrize("word", ["candidates", "=5", "a..b=1", ".a=1", "a b=1", "1a=2"])
def test_words_without_a_key_are_refused(word: str) -> None:
    with pytest.raises(OptionError, match="KEY=VALUE"):
        parse_settings([word])
    with pytest.raises(OptionError, match="candidates is given twice"):
        parse_settings(["candidates=1", "candidates=1"])


def test_parts() -> None:
    assert part_of({"extraction.a": 1, "extraction": 2, "b": 3}, "extraction") == ({"a": 1}, {"extraction": 2, "b": 3})


def test_values_are_set_however_deep_and_the_method_stays() -> None:
    before = METHODS["delf-asmk"]
    found = method_options("delf-asmk", {"candidates": 5, "verification.verifier": "affine", "screening": None,
                                         "verification.overlays": None, "turning.glance.features": 50,
                                         "turning.angles": [[90, 180], [45]], "matching.ratio": 1})
    assert (found.candidates, found.verification.verifier, found.screening) == (5, "affine", None)
    assert (found.turning.glance.features, found.turning.angles) == (50, ((90, 180), (45,)))
    assert found.verification.overlays is None
    assert METHODS["delf-asmk"] is before
    assert before.turning.glance.features == 100
    assert method_options("delf", {"turning.angles": []}).turning == TurningOptions()


@pytest.mark.parametrize(("key", "value", "said"), [
    ("nosuch", 1, "there is no option nosuch: SearchOptions has candidates"),
    ("verification.nosuch", 1, "VerificationOptions has"), ("candidates.more", 1, "has no options of its own"),
    ("screening.features", 1, r"screening is off"), ("candidates", "many", "candidates is int, not 'many'"),
    ("candidates", True, "candidates is int, not True"), ("candidates", -1, "0 or more"),
    ("candidates", None, "is int, not None"), ("verification.verifier", "nosuch", "must be one of"),
    ("verification.threshold", "wide", "is float, not 'wide'"), ("matching.ratio", "x", r"float or nothing \(null\)"),
    ("retrieval", "x", "retrieval is one of"), ("ranking", 3, "ranking is str"), ("turning.angles", 90, "is tuple"),
    ("turning.angles", [90], "cannot be"),
])
def test_what_makes_no_sense_is_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said) as error:
        method_options("delf", {key: value})
    assert "(the method is delf)" in str(error.value)


def test_every_method_can_be_set() -> None:
    for method in METHODS:
        assert method_options(method, {"candidates": 3, "verification.seed": 4}).candidates == 3
    with pytest.raises(OptionError, match="unknown method 'nosuch'"):
        method_options("nosuch")


@dataclass(frozen=True)
class _Listed:
    scales: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    either: tuple[int, int] | None = None
    text: str = ""


@pytest.mark.parametrize(("word", "found"), [
    ("scales=0.25,0.5", (0.25, 0.5)), ("scales=[0.25, 0.5]", (0.25, 0.5)), ("scales=0.5", (0.5,)),
    ("scales=1, 2,", (1, 2)), ("names=a, b", ("a", "b")), ("names=a", ("a",)), ("either=3,4", (3, 4)),
    ("either=null", None), ("text=1,2", "1,2")])
def test_lists_are_given_with_commas(word: str, found: Any) -> None:
    name = word.partition("=")[0]
    assert getattr(with_settings(_Listed(), parse_settings([word])), name) == found


@pytest.mark.parametrize(("word", "said"), [("scales=wide", r"scales is tuple, a list such as .*, not 'wide'"),
                                            ("scales=true", "not True"), ("text=[1]", "is str")])
def test_a_text_is_no_list(word: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        with_settings(_Listed(), parse_settings([word]))


def test_scales_are_given_with_commas_and_no_letters() -> None:
    assert extraction_options(["extraction.scales=0.25,0.5", "extraction.max_features=9", "candidates=1"]) == (
        {"scales": [0.25, 0.5], "max_features": 9}, {"candidates": 1})
    with pytest.raises(OptionError, match=r"such as \[0.25, 0.5\], not '0.25'"):
        ExtractionOptions(scales="0.25")  # type: ignore[arg-type]


def every_kind_of_options() -> list[type]:
    """All classes of options that have defaults, and can be imported here."""
    found = []
    for module in pkgutil.walk_packages(delf.__path__, "delf."):
        if module.name.partition(".")[2].partition(".")[0] in ("training", "network", "service", "__main__"):
            continue  # torch and the web, which take long to import
        found += [kind for kind in vars(importlib.import_module(module.name)).values()
                  if isinstance(kind, type) and is_dataclass(kind) and kind.__name__.endswith("Options")]
    return sorted({kind for kind in found if all(field.default is not MISSING or field.default_factory is not MISSING
                                                 for field in fields(kind))}, key=lambda kind: kind.__qualname__)


def test_numbers_of_all_options_are_numbers() -> None:
    kinds = every_kind_of_options()
    assert len(kinds) > 20
    for kind in kinds:
        for name, value in ((field.name, getattr(kind(), field.name)) for field in fields(kind)):
            wrong: list[object] = [float("nan"), "3", True] if type(value) is float else []
            for one in [float("nan"), 1.5, "3", True] if type(value) is int else wrong:
                with pytest.raises(OptionError):
                    kind(**{name: one})
                    pytest.fail(f"{kind.__name__} takes {one!r} for {name}")


@pytest.mark.parametrize("angles", [[[float("nan")]], [["90"]], [[1e9]]])
def test_angles_are_degrees(angles: Any) -> None:
    with pytest.raises(OptionError, match="degrees from -360 to 360"):
        TurningOptions(angles)
