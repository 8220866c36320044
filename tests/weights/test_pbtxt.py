"""Protocol buffers as text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delf.weights.pbtxt import parse

EXAMPLE = r"""
# A comment, with "quotes" and { braces }.
model_path: "parameters/delf/" 'model'  # another
image_scales: .25
image_scales: [0.5, 1., 2e0f ,1.5E-1];
size: -7, flag: true
inner { text: "a\n\"b\" \x41\101" inner: < deep: 0x10 > }
empty {}
"""


def test_what_texts_say() -> None:
    message = parse(EXAMPLE)
    assert message.text("model_path") == "parameters/delf/model"
    assert message.numbers("image_scales") == (0.25, 0.5, 1.0, 2.0, 0.15)
    assert message.whole("size", 0) == -7 and message.flag("flag", False) is True
    inner = message.message("inner")
    assert inner.text("text") == 'a\n"b" AA' and inner.message("inner").whole("deep", 0) == 16
    assert message.message("empty").fields == message.message("missing").fields == {}
    assert message.rest() == [] and parse(EXAMPLE).rest() == [
        "empty", "flag", "image_scales", "inner", "model_path", "size"]


def test_defaults_and_odd_numbers() -> None:
    message = parse("most: inf  least: -inf  none: nan  zero: -0")
    assert (message.number("most", 0), message.number("least", 0)) == (math.inf, -math.inf)
    assert math.isnan(message.number("none", 0)) and message.whole("zero", 3) == 0
    assert parse("").number("most", 2.5) == 2.5 and parse(" # nothing").flag("flag", True) is True


@pytest.mark.parametrize(("text", "words"), [
    ("a: 1\nb: $", "line 2: '\\$' stands where it means nothing"), ("a 1", "line 1: there is no colon behind 'a'"),
    ("a: {", "'}' is missing"), ("a < b: 1 }", "name of a field is missing"), ("a: [1 2]", "list of 'a' does not end"),
    ("a: [1,", "value of 'a' is missing"), ("a:", "value of 'a' is missing"), ("a: -", "value of 'a' is missing"),
    ('a: "b', "means nothing"), ("}", "name of a field is missing"), ("1: 2", "name of a field is missing"),
    ("a: 1.2.3", "means nothing"), ("a {" * 20, "too deep"), ("[a.b]: 1", "name of a field is missing"),
    ("a: 12x", "means nothing"), ("x" * (2**20 + 1), "more than 1,048,576 characters"),
])
def test_texts_that_make_no_sense(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


@pytest.mark.parametrize(("text", "kind", "words"), [
    ("a: 1 a: 2", "number", "has the field 'a' 2 times"), ("a: b", "number", "'a' is no number"),
    ('a: "1"', "number", "'a' is no number"), ("a {}", "number", "'a' is no number"),
    ("a: 1.5", "whole", "'a' is no whole number"), ("a: 2147483648", "whole", "'a' is no whole number"),
    ("a: inf", "whole", "'a' is no whole number"), ("a: nan", "whole", "'a' is no whole number"),
    ("a: 2", "flag", "'a' is neither true nor false"), ("a: b", "text", "'a' is no text in quotes"),
    ("a: 1", "message", "'a' holds no fields"), ("a: infinite", "number", "'a' is no number"),
])
def test_values_of_another_kind(text: str, kind: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        message = parse(text)
        {"number": lambda: message.number("a", 0), "whole": lambda: message.whole("a", 0),
         "flag": lambda: message.flag("a", False), "text": lambda: message.text("a"),
         "message": lambda: message.message("a")}[kind]()


def test_whatever_it_holds_the_only_error_is_a_value_error() -> None:
    rng = np.random.default_rng(0)
    pieces = [*"ab:{}<>[],;-\"'\\#\n 01.eExf", "true", "inf", "image_scales", "\x00", "é"]
    for length in rng.integers(1, 60, 600):
        text = "".join(rng.choice(pieces, length))
        try:
            message = parse(text)
            message.numbers("a"), message.text("b")
        except ValueError:
            pass
    for cut in range(len(EXAMPLE)):
        try:
            parse(EXAMPLE[:cut])
        except ValueError as error:
            assert "line" in str(error)
