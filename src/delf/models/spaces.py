"""Which models have descriptors that can be compared: a model that learnt from another one shares its space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARED = ("dimensions", "whitening")  # options of extraction that decide what a number of a descriptor means


def shares_words(model: Mapping[str, Any], learnt_from: object) -> bool:
    """Whether words serve a model, as extractors and collections name it: those that were learnt from its descriptors,
    or from descriptors of the model in whose space these lie.

    Args:
        learnt_from: the fingerprint of the model from whose descriptors the words were learnt.
    """
    return learnt_from in (model["fingerprint"], _space(model))


def share_space(model: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether descriptors of two models, as extractors and collections name them, can be compared: one learnt in the
    space of the other, or both learnt in that of a third.
    """
    return bool("space" in {*model, *other} and _space(model) == _space(other))


def is_same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether extractors and collections name one model. A model may come to say in whose space its descriptors lie,
    which changes nothing about them: what was made before does not say it.
    """
    return {**one, "space": None} == {**other, "space": None}


def _space(model: Mapping[str, Any]) -> Any:
    """The fingerprint of the model in whose space the descriptors of a model lie."""
    return model.get("space", model["fingerprint"])
