"""By which model and options something was made: what must be equal for features to mix or to be compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from delf.errors import CollectionError
from delf.images import display_path
from delf.models import COMPARED, is_same_model, share_space


class Identified(Protocol):
    """What says by which model and options features are extracted, as `delf.features.Delf` does."""

    @property
    def identity(self) -> dict[str, Any]:
        """Name and fingerprint of the model, and the options: what must be equal for features to mix."""
        ...


class MadeBy:
    """What knows by which model and options its features were extracted.

    folder: where it lies, for sentences. about: what is stored of the model and the options.
    """

    folder: Path
    about: Mapping[str, Any]

    def is_of(self, extractor: Identified) -> bool:
        """Whether an extractor is the one that the collection was made with."""
        return is_same_model(extractor.identity["model"], self.about["model"]) and not self._different(extractor)

    def is_comparable(self, extractor: Identified) -> bool:
        """Whether descriptors of an extractor can be compared with those of the collection: it made them, or its model
        has the same space as the model that made them, as a model has from which another one learnt.
        """
        model, options, own = extractor.identity["model"], extractor.identity["options"], self.about["options"]
        if is_same_model(model, self.about["model"]):
            return not self._different(extractor)
        return share_space(model, self.about["model"]) and all(options.get(key) == own.get(key) for key in COMPARED)

    def _different(self, extractor: Identified) -> list[str]:
        """The options that differ, each with both values."""
        return [f"{key} {self.about['options'].get(key, 'unset')} (now {value})"
                for key, value in extractor.identity["options"].items() if self.about["options"].get(key) != value]

    def require(self, extractor: Identified) -> None:
        """Make sure that an extractor is the one that the collection was made with.

        Raises:
            CollectionError: its model or its options differ; the text says both, and what to do.
        """
        own, other = self.about["model"], extractor.identity["model"]
        if not is_same_model(own, other):
            known = "by --model with its file" if own["name"] == other["name"] else (
                f"by --model {own['name']} (searches find a packaged one by themselves), or by --extractor where it is "
                "one of your own")
            raise CollectionError(f"{display_path(self.folder)} was made with the model {own['name']} "
                                  f"({own['fingerprint'][:8]}), not {other['name']} ({other['fingerprint'][:8]}), and "
                                  f"features of two models do not mix. Use that model, {known}, or renew the "
                                  f"collection with the other one: {self._how_to_renew(extractor)}")
        different = self._different(extractor)
        if different:
            raise CollectionError(f"{display_path(self.folder)} was made with other options: {', '.join(different)}; "
                                  f"use those, or renew the collection: {self._how_to_renew(extractor)}")

    def require_comparable(self, extractor: Identified) -> None:
        """Make sure that descriptors of an extractor can be compared with those of the collection, as a search must.

        Raises:
            CollectionError: they cannot; the text is that of `require`.
        """
        if not self.is_comparable(extractor):
            self.require(extractor)

    def _how_to_renew(self, extractor: Identified) -> str:
        """The command that extracts all images anew, as an extractor would do."""
        wanted = extractor.identity
        words = ["delf", "index", "-o", display_path(self.folder), "--renew",
                 *getattr(extractor, "asked_by", ("--model", wanted["model"]["name"]))]
        for name in ("dimensions", "max_features", "details"):  # others have no option of the command
            if name in wanted["options"]:
                words += [f"--{name.replace('_', '-')}", str(wanted["options"][name] or 0)]
        return f"'{shlex.join(words)}', or Collection.renew in Python"
