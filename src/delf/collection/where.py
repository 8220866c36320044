r"""Conditions on photos, such as `folder = holidays and date >= 2019-06 and not camera contains iphone`.

    condition := condition or condition | condition and condition | not condition | (condition) | term
    term      := FIELD = VALUE | != | < | <= | > | >= | FIELD contains VALUE | FIELD in (VALUE, ...) | has FIELD
               | place within NUMBER km of LATITUDE,LONGITUDE

A value with spaces stands in quotes, and a backslash there takes a quote or a backslash as it is. `FIELDS` has what
each photo has by itself; any other name is a key of its metadata, `shop.price` a key of an object in it, and
`metadata.date` the key of a name that is taken. A list there is as good as each of its members. What a photo does not
have is neither equal, nor unequal, nor less or more, and `not` is true of every photo that the rest is not true of.
`contains` does not mind upper and lower case, in ASCII; everything else does.

A condition becomes SQL over the tables of the catalogue, in which every value of the user is a parameter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delf.errors import OptionError

FIELDS = {
    "name": "the name of the file", "path": "the path, as it was indexed or absolute",
    "folder": "a folder that it lies in or below, by its name, the end of its path, or its absolute path",
    "date": "when it was taken: 2019, 2019-07, 2019-07-14 or 2019-07-14T16:30", "place": "where it was taken",
    "latitude": "in degrees, north positive", "longitude": "in degrees, east positive",
    "camera": "maker and model", "width": "in pixels", "height": "in pixels", "megapixels": "width times height",
    "bytes": "of the file", "key": "that it was added under, or the SHA-256 of its content",
}
"""What can be asked of any photo."""

LONGEST = 2000  # characters
MOST_TERMS = 100
_DEEPEST = 30  # parentheses and `not`, one in another
_EARTH_KM = 6371.0
_TOKEN = re.compile(r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign>!=|<=|>=|=|<|>|\(|\)|,)"""
                    r"""|(?P<word>[^\s"'()=<>!,]+))""")
_NAME = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")
_SIGNS = ("=", "!=", "<", "<=", ">", ">=")
_NUMBERS = {"latitude": "images.latitude", "longitude": "images.longitude", "width": "images.width",
            "height": "images.height", "megapixels": "images.width * images.height / 1e6"}
_SHOWN, _PATH = "CAST(files.shown AS TEXT)", "CAST(files.path AS TEXT)"
_FILE_NAME = f"substr({_SHOWN}, length(rtrim({_SHOWN}, replace({_SHOWN}, '/', ''))) + 1)"


@dataclass(frozen=True)
class Where:
    """A condition on the rows of `images`, as SQL; values: of its parameters. text: as it was given."""

    sql: str
    values: tuple[Any, ...]
    text: str


@dataclass(frozen=True)
class _Token:
    kind: str  # "text" in quotes, "sign", "word", or "end"
    value: str
    place: int


def parse_where(text: str) -> Where:
    """The condition that a text states.

    Raises:
        OptionError: it states none; the text says where, and what was expected there.
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError("a condition is a text such as 'date >= 2019 and folder = holidays'; leave it out where "
                          "there is none")
    if len(text) > LONGEST:
        raise OptionError(f"a condition has at most {LONGEST:,} characters, not {len(text):,}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise OptionError("a condition is text that UTF-8 can express, and this one has other bytes; leave them out, "
                          "and compare the rest with 'contains'")
    parser = _Parser(text)
    sql = parser.condition()
    parser.require_end()
    return Where(sql, tuple(parser.values), text)


class _Parser:
    """Reads a condition from left to right, and gathers the values of its parameters in their order."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._next = text, _tokens(text), 0
        self._terms = self._depth = 0
        self.values: list[Any] = []

    def condition(self) -> str:
        parts = [self._both()]
        while self._takes("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def require_end(self) -> None:
        if self._token.kind != "end":
            raise self._wrong("'and', 'or' or the end")

    def _both(self) -> str:
        parts = [self._single()]
        while self._takes("and"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"

    def _single(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise OptionError(f"a condition has at most {_DEEPEST} parentheses and 'not' in one another")
        if self._takes("not"):
            found = f"NOT {self._single()}"
        elif self._takes("("):
            found = self.condition()
            self._require(")")
        else:
            found = self._term()
        self._depth -= 1
        return found

    def _term(self) -> str:
        if self._takes("has"):
            return self._compared(self._field(), "has", ())
        name = self._field()
        if self._takes("within"):
            return self._within(name)
        if self._takes("in"):
            return f"({' OR '.join(self._compared(name, '=', (value,)) for value in self._listed())})"
        sign = self._taken(*_SIGNS, "contains")
        if sign is None:
            raise self._wrong(f"=, !=, <, <=, >, >=, 'contains' or 'in' after {name!r}")
        return self._compared(name, sign, (self._value(),))

    def _listed(self) -> list[_Token]:
        self._require("(")
        found = [self._value()]
        while self._takes(","):
            found.append(self._value())
        self._require(")")
        return found

    def _compared(self, name: str, sign: str, values: Sequence[_Token]) -> str:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise OptionError(f"a condition has at most {MOST_TERMS} parts")
        sql, given = _KINDS.get(name, _of_metadata)(name, sign, values[0] if values else None)
        self.values += given
        return f"coalesce({sql}, 0)"

    def _within(self, name: str) -> str:
        if name != "place":
            raise OptionError("'within' goes with 'place', as in 'place within 2 km of 41.89,12.49', not with "
                              f"{name!r}")
        distance, unit = _number(self._value(), "a distance"), self._taken("km", "m")
        if unit is None:
            raise self._wrong("km or m")
        self._require("of")
        latitude = _number(self._value(), "a latitude")
        self._require(",")
        longitude = _number(self._value(), "a longitude")
        if abs(latitude) > 90 or abs(longitude) > 180 or distance < 0:
            raise OptionError("a place is a latitude from -90 to 90 and a longitude from -180 to 180, and a distance "
                              "is not negative: place within 2 km of 41.89,12.49")
        radius = distance / (1 if unit == "km" else 1000)
        band = math.degrees(radius / _EARTH_KM)
        self.values += [latitude - band, latitude + band, latitude, longitude, radius]
        return ("coalesce(images.latitude BETWEEN ? AND ? AND delf_km(images.latitude, images.longitude, ?, ?) <= ?, "
                "0)")

    def _field(self) -> str:
        token = self._token
        if token.kind != "word" or not _NAME.fullmatch(token.value):
            raise self._wrong(f"the name of a field, such as {', '.join(list(FIELDS)[:5])}, or a key of the metadata")
        self._next += 1
        return token.value

    def _value(self) -> _Token:
        token = self._token
        if token.kind not in ("word", "text"):
            raise self._wrong("a value")
        self._next += 1
        return token

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _taken(self, *words: str) -> str | None:
        """The next token, if it is one of some words or signs, upper or lower case."""
        token = self._token
        found = token.value.lower() if token.kind in ("word", "sign") else None
        if found not in words:
            return None
        self._next += 1
        return found

    def _takes(self, word: str) -> bool:
        return self._taken(word) is not None

    def _require(self, word: str) -> None:
        if not self._takes(word):
            raise self._wrong(repr(word))

    def _wrong(self, expected: str) -> OptionError:
        token = self._token
        there = "it ends" if token.kind == "end" else f"there is {token.value[:40]!r}"
        return OptionError(f"the condition {self._text[:200]!r} is not understood: {there} at character "
                           f"{token.place + 1}, where {expected} was expected. A condition looks like this: "
                           "date >= 2019 and camera contains canon")


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while text[place:].strip():
        token = _TOKEN.match(text, place)
        if token is None:
            raise OptionError(f"the condition {text[:200]!r} is not understood: a quote that begins at character "
                              f"{place + 1} has no end, or a sign there is none of =, !=, <, <=, >, >=")
        kind = str(token.lastgroup)
        value = token[kind]
        found.append(_Token(kind, re.sub(r"\\(.)", r"\1", value[1:-1]) if kind == "text" else value, token.start(kind)))
        place = token.end()
    return [*found, _Token("end", "", len(text))]


# --- what each kind of field becomes: SQL, and the values of its parameters

_Made = tuple[str, list[Any]]


def _of_number(name: str, sign: str, value: _Token | None) -> _Made:
    if value is None:
        return f"{_NUMBERS[name]} IS NOT NULL", []
    return f"{_NUMBERS[name]} {_ordered(name, sign)} ?", [_number(value, name)]


def _of_date(name: str, sign: str, value: _Token | None) -> _Made:
    """Dates are compared as far as they are given: any time of 2019 is 2019, and not after it."""
    if value is None:
        return "images.captured_at IS NOT NULL", []
    if not _DATE.fullmatch(value.value):
        raise OptionError(f"a date is such as 2019, 2019-07, 2019-07-14 or 2019-07-14T16:30, not {value.value[:40]!r}")
    date = value.value.replace(" ", "T")
    return f"substr(images.captured_at, 1, ?) {_ordered(name, sign)} ?", [len(date), date]


def _of_camera(name: str, sign: str, value: _Token | None) -> _Made:
    return ("images.camera IS NOT NULL", []) if value is None else _text("images.camera", name, sign, value)


def _of_place(name: str, sign: str, value: _Token | None) -> _Made:
    if value is not None:
        raise OptionError("a place is asked for by 'place within 2 km of 41.89,12.49', or 'has place'")
    return "images.latitude IS NOT NULL AND images.longitude IS NOT NULL", []


def _of_file(name: str, sign: str, value: _Token | None) -> _Made:
    """A file of the image of which it is true."""
    if value is None:
        return _any_file("1", [])
    if name == "bytes":
        return _any_file(f"files.size {_ordered(name, sign)} ?", [_number(value, name)])
    if name == "name":
        return _any_file(*_text(_FILE_NAME, name, sign, value))
    parts = [_text(one, name, "=" if sign == "!=" else sign, value) for one in (_SHOWN, _PATH)]
    either, values = " OR ".join(sql for sql, _ in parts), [one for _, given in parts for one in given]
    return _any_file(f"NOT ({either})" if sign == "!=" else f"({either})", values)


def _of_folder(name: str, sign: str, value: _Token | None) -> _Made:
    if value is None:
        return _any_file("1", [])
    if sign not in ("=", "!="):
        raise OptionError(f"a folder is compared by =, != or in, not by {sign!r}: folder = holidays/2019")
    if not value.value:
        raise OptionError("a folder has a name, as in 'folder = holidays/2019'; to look in all folders, leave the "
                          "condition out")
    inside = f"/{named}/" if (named := value.value.strip("/")) else "/"
    if value.value.startswith("/"):
        sql, values = f"substr({_PATH}, 1, ?) = ?", [len(inside), inside]
    else:
        sql, values = f"(instr({_PATH}, ?) OR instr('/' || {_SHOWN}, ?))", [inside, inside]
    return _any_file(f"NOT {sql}" if sign == "!=" else sql, values)


def _of_key(name: str, sign: str, value: _Token | None) -> _Made:
    if value is None:
        return "1", []
    if sign not in ("=", "!="):
        raise OptionError(f"a key is compared by =, != or in, not by {sign!r}")
    sql, values = _any_file(f"{_PATH} = ?", [f"key:{value.value}"])
    sql, values = f"({sql} OR lower(hex(images.sha256)) = ?)", [*values, value.value]
    return (sql if sign == "=" else f"NOT {sql}"), values


def _of_metadata(name: str, sign: str, value: _Token | None) -> _Made:
    parts = name.removeprefix("metadata.").split(".")
    place = "$" + "".join(f".{json.dumps(part, ensure_ascii=False)}" for part in parts)
    sql, values = ("1", []) if value is None else _of_member(name, sign, value)
    return ("EXISTS (SELECT 1 FROM metadata, json_each(metadata.value, ?) AS one WHERE metadata.sha256 = images.sha256 "
            f"AND {sql})", [place, *values])


def _of_member(name: str, sign: str, value: _Token) -> _Made:
    """A value of the metadata, which may be a text, a number, true or false."""
    sql, values = _text("one.value", name, sign, value, ordered=True)
    sql = f"(one.type = 'text' AND {sql})"
    if value.kind == "word" and value.value in ("true", "false") and sign in ("=", "!="):
        sql, values = f"({sql} OR (one.type IN ('true', 'false') AND one.type {sign} ?))", [*values, value.value]
    with_number = _as_number(value) if value.kind == "word" and sign != "contains" else None
    if with_number is not None:
        sql = f"({sql} OR (one.type IN ('integer', 'real') AND one.value {sign} ?))"
        values = [*values, with_number]
    return sql, values


_KINDS: dict[str, Callable[[str, str, _Token | None], _Made]] = {
    **dict.fromkeys(_NUMBERS, _of_number), "date": _of_date, "camera": _of_camera, "place": _of_place,
    **dict.fromkeys(("name", "path", "bytes"), _of_file), "folder": _of_folder, "key": _of_key}


def _any_file(sql: str, values: list[Any]) -> _Made:
    return f"EXISTS (SELECT 1 FROM files WHERE files.image = images.id AND {sql})", values


def _text(column: str, name: str, sign: str, value: _Token, *, ordered: bool = False) -> _Made:
    if sign == "contains":
        escaped = re.sub(r"([\\%_])", r"\\\1", value.value)
        return f"{column} LIKE ? ESCAPE '\\'", [f"%{escaped}%"]
    if sign not in ("=", "!=") and not ordered:
        raise OptionError(f"{name} is compared by =, !=, contains or in, not by {sign!r}")
    return f"{column} {sign} ?", [value.value]


def _ordered(name: str, sign: str) -> str:
    if sign not in _SIGNS:
        raise OptionError(f"{name} is compared by =, !=, <, <=, >, >= or in, not by {sign!r}")
    return sign


def _number(value: _Token, what: str) -> float:
    found = _as_number(value)
    if found is None:
        raise OptionError(f"{what} is a number, not {value.value[:40]!r}")
    return found


def _as_number(value: _Token) -> float | None:
    try:
        found = float(value.value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _distance_km(latitude: object, longitude: object, other_latitude: float, other_longitude: float) -> float | None:
    """On a sphere, by the haversine formula; NULL where a place is not known."""
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    low, high = math.radians(latitude), math.radians(other_latitude)
    across = math.radians(other_longitude - longitude)
    share = math.sin((high - low) / 2) ** 2 + math.cos(low) * math.cos(high) * math.sin(across / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(min(1.0, share)))


FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {"delf_km": (4, _distance_km)}
"""What the SQL of a condition calls beside what SQLite has: by name, the number of arguments and the function."""
