"""The extractor that a collection names. A stranger may have made it: what it says is looked at, and not obeyed.

The name of a model is that of a packaged one, or of an extractor that ships with the package. Nothing is downloaded or
imported for a name, and none is looked for on this disk or on another machine: who has a model of their own names its
file, and who has an extractor of their own names that. Options are those of `ExtractionOptions`, or of the extractor
that ships, and no others, and may not ask for more than a machine can do.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from delf.errors import CollectionError, ModelError, OptionError
from delf.extractors import Extractor
from delf.features.extractor import Delf
from delf.features.named import EXTRACTORS, load_named
from delf.features.options import ExtractionOptions
from delf.images import display_path
from delf.models import COMPARED, is_same_model, packaged_models, share_space

UNLIMITED_SIDE = 4096  # what the longest side of a photo is taken for where it is not limited
MOST_PIXELS = 2**27  # of all levels of a photo together
_NO_OPTIONS = ("{} stores options of its features that cannot be used: {}. It was made by a newer version of delf, or "
               "is damaged")


def load_stored(about: Mapping[str, Any], folder: Path, *, model: str | Path | None = None, runtime: str = "auto",
                device: str = "cpu", threads: int | None = None) -> Extractor:
    """The extractor of the collection in `folder`.

    Args:
        about: what the collection says of itself (`Collection.about`).
        model: what the user names instead of the packaged model that the collection does, as for `Delf.load`. One that
            only shares the space of that has its own options, but for those by which descriptors are compared.
        runtime, device, threads: as for `Delf.load`.

    Raises:
        CollectionError: its model is not a packaged one, or it stores what are no options. ModelError: the model that
            the user names cannot be loaded.
    """
    if (name := about["model"]["name"]) in EXTRACTORS:
        if model is not None:
            raise CollectionError(f"{display_path(folder)} was made with {name}, which is no model; leave --model out")
        return load_shipped(about, folder, threads=threads)
    own = stored_model(about, folder) if model is None else model
    stored = asdict(stored_options(about, folder))
    if model is None:
        return Delf.load(own, runtime=runtime, device=device, threads=threads, **stored)
    named = Delf.load(model, runtime=runtime, device=device, threads=threads)
    own = named.identity["model"]
    if not is_same_model(own, about["model"]) and share_space(own, about["model"]):
        stored = {key: stored[key] for key in (*COMPARED, "details")}
    return named.changed(**stored)


def load_shipped(about: Mapping[str, Any], folder: Path, *, threads: int | None = None, **options: Any) -> Extractor:
    """The extractor of a collection that was made with one that ships with the package.

    Args:
        options: instead of those that the collection stores.

    Raises:
        CollectionError: it stores what are no options of it.
    """
    stored = {key: value for key, value in about["options"].items() if key != "dimensions"}  # they are not to be chosen
    try:
        side = stored.get("max_image_size", UNLIMITED_SIDE)
        if side is not None and side > math.isqrt(MOST_PIXELS):
            raise OptionError(f"a photo would be looked at in more than {MOST_PIXELS:,} pixels")
        if set(stored) & {"threads", "device", "probability"}:  # the last is a file, and the user's to name
            raise OptionError("a collection cannot set threads, device and probability")
        load_named(about["model"]["name"], **stored)
    except (OptionError, ModelError, TypeError, OverflowError) as error:
        raise CollectionError(_NO_OPTIONS.format(display_path(folder), error)) from error
    return load_named(about["model"]["name"], threads=threads, **{**stored, **options})


def stored_model(about: Mapping[str, Any], folder: Path) -> str:
    """The name of the packaged model that a collection names.

    Raises:
        CollectionError: it names another.
    """
    name = about["model"]["name"]
    if name not in packaged_models():
        raise CollectionError(f"{display_path(folder)} was made with the model {name!r}, which is not found: by name, "
                              f"only packaged models are ({', '.join(packaged_models())}). Name its file with --model, "
                              "or an extractor of your own with --extractor; in Python give an extractor. Where that "
                              "model is lost, renew the collection with another one: "
                              f"{shlex.join(['delf', 'index', '-o', display_path(folder), '--renew'])}")
    return str(name)


def stored_options(about: Mapping[str, Any], folder: Path) -> ExtractionOptions:
    """The options of a collection.

    Raises:
        CollectionError: there are some that do not exist, or that make no sense.
    """
    try:
        stored = dict(about["options"])
        unknown = sorted(map(repr, set(stored) - {field.name for field in fields(ExtractionOptions)}))
        if unknown:
            raise OptionError(f"there is no option {', '.join(unknown)}")
        options = ExtractionOptions(**stored)
        side = max(options.max_image_size or UNLIMITED_SIDE, options.min_image_size or 0)
        if sum((side * scale) ** 2 for scale in options.scales) > MOST_PIXELS:
            raise OptionError(f"a photo would be looked at in more than {MOST_PIXELS:,} pixels; to do so all the same, "
                              "give an extractor in Python")
    except (OptionError, TypeError, OverflowError) as error:
        raise CollectionError(_NO_OPTIONS.format(display_path(folder), error)) from error
    return options
