"""Extractors by name: those that ship with the package, those of installed packages, and anyone's own factory.

Only names that a user gives come here. What a collection calls its extractor is looked up in `EXTRACTORS` alone
(`delf.features.stored`), so that no code is imported because a stranger's collection names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from delf.errors import DelfError, ModelError, OptionError
from delf.extractors import Extractor, as_extractor, judged_by
from delf.factories import current_folder, imported, require_taken
from delf.features.fitted import read_fitted

GROUP = "delf.extractors"  # of entry points

EXTRACTORS = {"rootsift": "delf.features.rootsift:RootSiftExtractor"}
"""What ships beside the models: by name, the factory that makes it of its options."""


def load_named(name: str, *, threads: int | None = None, device: str = "cpu", probability: str | Path | None = None,
               **options: Any) -> Extractor:
    """Make an extractor by its name, and fill in what it lacks.

    Args:
        name: a key of `EXTRACTORS`, the name of an entry point in the group `delf.extractors`, or MODULE:FACTORY, where
            the module may lie in the current folder.
        threads, device: given to a factory that takes such arguments. options: given to it as they are.
        probability: a file that says how sure it may be (`delf.features.fitted`); no option of the factory.

    Raises:
        OptionError: there is none of that name, it does not take these options, or what it makes is no extractor; the
            text says what it lacks. ModelError: it could not be made, or the file is of another one.
    """
    with current_folder():
        factory = _factory(name)
        context = {"threads": threads, "device": None if device == "cpu" else device}
        given = {**_taken(factory, context, name), **options}
        require_taken(f"the extractor {name!r}", factory, given)
        try:
            made = factory(**given)
        except DelfError:
            raise
        except Exception as error:  # someone's own code may raise anything
            raise ModelError(f"the extractor {name!r} could not be made: {type(error).__name__}: {error}") from error
        if "threads" in given:
            threads = None  # it knows
        whole = as_extractor(made, source=name, threads=threads)
    if probability is None:
        return whole
    fitted = read_fitted(Path(probability), whole.identity["model"])
    return judged_by(whole, lambda by_words: fitted.by_words if by_words else fitted.probability)


def _factory(name: str) -> Callable[..., Any]:
    """What makes the extractor of a name."""
    place = EXTRACTORS.get(name, name)
    found = [point for point in entry_points(group=GROUP) if point.name == name] if ":" not in place else []
    if ":" not in place and not found:
        known = [*EXTRACTORS, *sorted(point.name for point in entry_points(group=GROUP))]
        raise OptionError(f"there is no extractor {name!r}; known are {', '.join(known)}. One of your own is named as "
                          "MODULE:FACTORY")
    return imported(f"the extractor {name!r}", place, found[0] if found else None)


def _taken(factory: Callable[..., Any], given: dict[str, Any], name: str) -> dict[str, Any]:
    """The given options for which a factory has parameters. The device must be taken, as results depend on it."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of a compiled one
        parameters = {}  # type: ignore[assignment]
    if given["device"] is not None and "device" not in parameters:
        raise OptionError(f"the extractor {name!r} takes no device; leave --device out")
    return {key: value for key, value in given.items() if value is not None and key in parameters}
