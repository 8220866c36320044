"""Protocol buffers as text, as far as configurations use it: fields of numbers, words, strings and messages; comments.

    name: 1.5   name: "text" 'more'   name: true   name: [1, 2]   name { ... }   name: < ... >   # a comment

(The format: protobuf.dev, "Text Format Language Specification". Extensions, `Any` and large unsigned numbers are left
out, as no configuration of DELF has them.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

MOST_CHARACTERS = 2**20
_DEEPEST = 16
_TOKEN = re.compile(r"""
    (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fF]?(?![A-Za-z0-9_.]))
  | (?P<sign>[-:{}<>\[\],;])
""", re.VERBOSE)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Text:
    """A string in quotes."""

    value: str


@dataclass(frozen=True)
class Word:
    """A number or a word, as it was written."""

    value: str


@dataclass
class Message:
    """Fields by their names, each with all its values. asked: names that were asked for; `rest` has the others.

    All errors are `ValueError`s.
    """

    fields: dict[str, list[Text | Word | Message]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def number(self, name: str, default: float) -> float:
        """A field that holds a number."""
        return self._one(name, _as_number, default)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A repeated field of numbers."""
        return tuple(self._all(name, _as_number))

    def whole(self, name: str, default: int) -> int:
        """A field that holds a whole number."""
        return self._one(name, _as_whole, default)

    def flag(self, name: str, default: bool) -> bool:
        """A field that is true or false."""
        return self._one(name, _as_flag, default)

    def text(self, name: str, default: str = "") -> str:
        """A field that holds a string."""
        return self._one(name, _as_text, default)

    def message(self, name: str) -> Message:
        """A field that holds others; one without any where there is none."""
        return self._one(name, _as_message, Message())

    def rest(self) -> list[str]:
        """The names of fields that nobody has asked for."""
        return sorted(self.fields.keys() - self.asked)

    def _one(self, name: str, convert: Callable[[Value], _Kind], default: _Kind) -> _Kind:
        values = self._all(name, convert)
        if len(values) > 1:
            raise ValueError(f"it has the field {name!r} {len(values)} times, which may be there once")
        return values[0] if values else default

    def _all(self, name: str, convert: Callable[[Value], _Kind]) -> list[_Kind]:
        self.asked.add(name)
        try:
            return [convert(value) for value in self.fields.get(name, ())]
        except ValueError as error:
            raise ValueError(f"the field {name!r} {error}") from error


Value = Text | Word | Message


def parse(text: str) -> Message:
    """What a text says.

    Raises:
        ValueError: it is no such text; the message names the line.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it has more than {MOST_CHARACTERS:,} characters")
    return _fields(_Tokens(text), "", 0)


class _Tokens:
    """The parts of a text, one after the other; `kind` and `value` are of the next one, "" at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.kind = self.value = ""
        self.step()

    def step(self) -> str:
        """Go on to the part behind the next one, which is returned."""
        passed = self.value
        while True:
            if self._at == len(self._text):
                self.kind = self.value = ""
                return passed
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                raise self.error(f"{self._text[self._at]!r} stands where it means nothing")
            self._at = found.end()
            if found.lastgroup != "space":
                self.kind, self.value = found.lastgroup or "", found.group()
                return passed

    def take(self, *signs: str) -> str:
        """Step past one of these signs, if it is the next part; which one, or ""."""
        return self.step() if self.kind == "sign" and self.value in signs else ""

    def error(self, what: str) -> ValueError:
        """An error that names the line."""
        return ValueError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")


def _fields(tokens: _Tokens, end: str, depth: int) -> Message:
    """The fields up to a sign, or to the end of the text."""
    if depth > _DEEPEST:
        raise tokens.error("messages lie too deep in one another")
    message = Message()
    while tokens.kind:
        if end and tokens.take(end):
            return message
        if tokens.kind != "word":
            raise tokens.error(f"the name of a field is missing in front of {tokens.value!r}")
        name = tokens.step()
        values = message.fields.setdefault(name, [])
        colon = tokens.take(":")
        if colon and tokens.take("["):
            while not tokens.take("]"):
                values.append(_value(tokens, name, depth))
                if not tokens.take(",") and not (tokens.kind == "sign" and tokens.value == "]"):
                    raise tokens.error(f"the list of {name!r} does not end")
        else:
            if not colon and not (tokens.kind == "sign" and tokens.value in "{<"):
                raise tokens.error(f"there is no colon behind {name!r}")
            values.append(_value(tokens, name, depth))
        tokens.take(",", ";")
    if end:
        raise tokens.error(f"{end!r} is missing")
    return message


def _value(tokens: _Tokens, name: str, depth: int) -> Value:
    if opened := tokens.take("{", "<"):
        return _fields(tokens, {"{": "}", "<": ">"}[opened], depth + 1)
    if tokens.kind == "string":
        parts = []
        while tokens.kind == "string":
            parts.append(_ESCAPE.sub(_unescaped, tokens.step()[1:-1]))
        return Text("".join(parts))
    sign = tokens.take("-")
    if tokens.kind not in ("word", "number"):
        raise tokens.error(f"the value of {name!r} is missing")
    return Word(sign + tokens.step())


def _unescaped(found: re.Match[str]) -> str:
    octal, hexadecimal, letter = found.groups()
    if octal or hexadecimal:
        return chr(int(octal, 8) if octal else int(hexadecimal, 16))
    return _ESCAPED.get(letter, letter)


def _as_number(value: Value) -> float:
    if isinstance(value, Word):
        word = value.value
        try:
            if "x" in word.lower():
                return float(int(word, 16))
            return float(word.rstrip("fF") if word[-2:-1].isdigit() or word[-2:-1] == "." else word)
        except ValueError:
            pass
    raise ValueError("is no number")


def _as_whole(value: Value) -> int:
    number = _as_number(value)
    if not number.is_integer() or abs(number) >= 2**31:
        raise ValueError("is no whole number of 32 bits")
    return int(number)


def _as_flag(value: Value) -> bool:
    flags = dict.fromkeys(("true", "True", "t", "1"), True) | dict.fromkeys(("false", "False", "f", "0"), False)
    if isinstance(value, Word) and value.value in flags:
        return flags[value.value]
    raise ValueError("is neither true nor false")


def _as_text(value: Value) -> str:
    if isinstance(value, Text):
        return value.value
    raise ValueError("is no text in quotes")


def _as_message(value: Value) -> Message:
    if isinstance(value, Message):
        return value
    raise ValueError("holds no fields in braces")
