"""Options by dotted names: `verification.threshold=10` says it to frozen dataclasses, however deep they lie."""

from __future__ import annotations

import json
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from delf.errors import OptionError

Settings = Mapping[str, Any]
_Options = TypeVar("_Options")


class Options:
    """What frozen dataclasses of options derive from, so that counts are whole numbers, and nothing is NaN.

    It is looked at behind what an option class looks at itself, which often has more to say.
    """

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        own = getattr(cls, "__post_init__", None)

        def checked(self: Any) -> None:
            try:
                if own is not None:
                    own(self)
            except TypeError:
                _require_numbers(self)
                raise
            _require_numbers(self)

        cls.__post_init__ = checked  # type: ignore[attr-defined]


def _require_numbers(options: Any) -> None:
    """Raise an `OptionError` where a field that is to have a number, or None, has something else."""
    for field in fields(options):
        kinds = {kind.strip() for kind in str(field.type).split("|")}
        value = getattr(options, field.name)
        if not kinds <= {"int", "float", "None"} or (value is None and "None" in kinds):
            continue
        number, told = (numbers.Real, "a number") if "float" in kinds else (numbers.Integral, "a whole number")
        if isinstance(value, bool) or not isinstance(value, number) or value != value:  # NaN is the one that differs
            raise OptionError(f"the option {field.name} is {told}, not {value!r}")


def parse_settings(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words -> values by their keys. A value is JSON, and where it is none, text as it stands.

    Raises:
        OptionError: a word has no key, or one has been given before.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or not all(part.isidentifier() for part in key.split(".")):
            raise OptionError(f"a setting is KEY=VALUE, such as verification.threshold=10, not {word!r}")
        if key in found:
            raise OptionError(f"the setting {key} is given twice")
        found[key] = _json(text)
    return found


def part_of(settings: Settings, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings below a place, without its name, and the others."""
    below = {key.removeprefix(f"{place}."): value for key, value in settings.items() if key.startswith(f"{place}.")}
    return below, {key: value for key, value in settings.items() if not key.startswith(f"{place}.")}


def with_settings(options: _Options, settings: Settings) -> _Options:
    """Options with other values of some of their fields, and of fields of the options in them.

    Raises:
        OptionError: there is no such option, or a value makes no sense.
    """
    for key, value in settings.items():
        options = _with(options, key.split("."), value, key)
    return options


def _with(options: Any, path: list[str], value: Any, key: str) -> Any:
    if not is_dataclass(options) or isinstance(options, type):
        place = ".".join(key.split(".")[: -len(path)])
        raise OptionError(f"there is no option {key}: {place} is {_told(options)}, and has no options of its own")
    known = {field.name for field in fields(options)}
    if path[0] not in known:
        raise OptionError(f"there is no option {key}: {type(options).__name__} has {', '.join(sorted(known))}")
    if len(path) > 1:
        return replace(options, **{path[0]: _with(getattr(options, path[0]), path[1:], value, key)})
    value = fitted(type(options), path[0], value, key)
    try:
        return replace(options, **{path[0]: value})
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"the option {key} cannot be {value!r}: {error}") from error


def fitted(kind: type, name: str, value: Any, key: str) -> Any:
    """A value as a field of a dataclass has it: a list is a tuple, and so is a text with commas where the field is one.

    key: what the option is called in the sentence of an `OptionError`, where the value is of another kind.
    """
    wanted = typing.get_type_hints(kind)[name]
    kinds = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    origins = tuple(typing.get_origin(one) or one for one in kinds)
    value = _frozen(_listed(value, kinds))
    if Any in origins or any(_is(value, one) for one in origins):
        return value
    names = " or ".join("nothing (null)" if one is type(None) else "tuple, a list such as [0.25, 0.5] or 0.25,0.5,"
                        if one is tuple else one.__name__ for one in origins)
    raise OptionError(f"the option {key} is {names.removesuffix(',')}, not {value!r}")


def with_lists(kind: type, settings: Settings) -> dict[str, Any]:
    """Settings in which texts with commas, and single numbers, are lists where a dataclass has a tuple of that name."""
    hints = typing.get_type_hints(kind)
    return {name: _listed(value, (hints.get(name),)) for name, value in settings.items()}


def _listed(value: Any, kinds: tuple[Any, ...]) -> Any:
    """`0.25,0.5` as a list, and a number as one of one, where a tuple of numbers or texts is wanted, and no text."""
    members = next((typing.get_args(one)[0] for one in kinds if typing.get_origin(one) is tuple), None)
    if members not in (int, float, str) or str in kinds or isinstance(value, bool):
        return value
    if isinstance(value, str) and (members is str or "," in value):
        return [_json(part) if members is not str else part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float) and members is not str else value


def _json(text: str) -> Any:
    """What a text says as JSON, and where that is none, the text as it stands."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _told(value: Any) -> str:
    return "off" if value is None else repr(value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
