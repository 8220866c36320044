"""Extractors by name: those that ship with the package, those of installed packages, and anyone's own factory.

Only names that a user gives come here. What a collection calls its extractor is looked up in `EXTRACTORS` alone
(`delf.features.stored`), so that no code is imported because a stranger's collection names it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from delf.errors import DelfError, ModelError, OptionError
from delf.extractors import Extractor, as_extractor

GROUP = "delf.extractors"  # of entry points

EXTRACTORS = {"rootsift": "delf.features.rootsift:RootSiftExtractor"}
"""What ships beside the models: by name, the factory that makes it of its options."""


def load_named(name: str, *, threads: int | None = None, device: str = "cpu", **options: Any) -> Extractor:
    """Make an extractor by its name, and fill in what it lacks.

    Args:
        name: a key of `EXTRACTORS`, the name of an entry point in the group `delf.extractors`, or MODULE:FACTORY, where
            the module may lie in the current folder.
        threads, device: given to a factory that takes such arguments. options: given to it as they are.

    Raises:
        OptionError: there is none of that name, it does not take these options, or what it makes is no extractor; the
            text says what it lacks. ModelError: it could not be made.
    """
    with _current_folder():
        factory = _factory(name)
        context = {"threads": threads, "device": None if device == "cpu" else device}
        given = {**_taken(factory, context, name), **options}
        _require_taken(factory, given, name)
        try:
            made = factory(**given)
        except DelfError:
            raise
        except Exception as error:  # someone's own code may raise anything
            raise ModelError(f"the extractor {name!r} could not be made: {type(error).__name__}: {error}") from error
        if "threads" in given:
            threads = None  # it knows
        return as_extractor(made, source=name, threads=threads)


def _factory(name: str) -> Callable[..., Any]:
    """What makes the extractor of a name."""
    place = EXTRACTORS.get(name, name)
    found = [point for point in entry_points(group=GROUP) if point.name == name] if ":" not in place else []
    if ":" not in place and not found:
        known = [*EXTRACTORS, *sorted(point.name for point in entry_points(group=GROUP))]
        raise OptionError(f"there is no extractor {name!r}; known are {', '.join(known)}. One of your own is named as "
                          "MODULE:FACTORY")
    try:
        made = (found[0] if found else EntryPoint(name, place, GROUP)).load()
    except (ModuleNotFoundError, AttributeError) as error:
        raise OptionError(f"the extractor {name!r} is not found ({error}); MODULE:FACTORY names a module that Python "
                          "can import, from the current folder as well, and a function or a class in it") from error
    except Exception as error:  # so may the module
        raise ModelError(f"the extractor {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise OptionError(f"the extractor {name!r} is {type(made).__name__}, not a function or a class that makes one")
    factory: Callable[..., Any] = made
    return factory


def _taken(factory: Callable[..., Any], given: dict[str, Any], name: str) -> dict[str, Any]:
    """What was given of what a factory has parameters for. The device must be taken, as results depend on it."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of a compiled one
        parameters = {}  # type: ignore[assignment]
    if given["device"] is not None and "device" not in parameters:
        raise OptionError(f"the extractor {name!r} takes no device; leave --device out")
    return {key: value for key, value in given.items() if value is not None and key in parameters}


def _require_taken(factory: Callable[..., Any], given: dict[str, Any], name: str) -> None:
    """Raise an `OptionError` where a factory does not take what it is about to be given."""
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise OptionError(f"the extractor {name!r} does not take these options: {error}") from error
    except ValueError:  # of a compiled one, which says so itself
        return


@contextmanager
def _current_folder() -> Iterator[None]:
    """Modules of the current folder can be imported, after all others."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
