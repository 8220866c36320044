"""Retrieval: the first half of a search, which finds candidate images for a query, before any geometry.

A retriever is made by its options; to add one, add a file and a line to `RETRIEVERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from delf.collection import Stored
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.descriptors import GlobalRetrieval, GlobalRetriever
from delf.retrieval.fused import FusedRetrieval, FusedRetriever
from delf.retrieval.hqe import HqeRetrieval, HqeRetriever
from delf.retrieval.votes import VoteOptions, VoteRetriever

__all__ = ["RETRIEVERS", "AsmkRetrieval", "FusedRetrieval", "GlobalRetrieval", "HqeRetrieval", "Mask", "Retriever",
           "VoteOptions", "open_retriever", "reads_global", "reads_index"]

RETRIEVERS: dict[type, Callable[[Stored, Any, Callable[[int, int], None]], Retriever]] = {
    VoteOptions: VoteRetriever, AsmkRetrieval: AsmkRetriever, GlobalRetrieval: GlobalRetriever,
    HqeRetrieval: HqeRetriever, FusedRetrieval: FusedRetriever}
"""The retriever of each kind of options: called with a collection, the options, and what is told of progress."""


def open_retriever(collection: Stored, options: Any, *, model_file: Path | None = None,
                   progress: Callable[[int, int], None] = lambda done, total: None) -> Retriever:
    """The retriever that its options ask for, on the present state of a collection.

    What it needs on the disk is made where it is missing.

    Args:
        model_file: beside which visual words may lie, unless the options name one.
        progress: called with (segments done, segments to do) while something is made.
    """
    if model_file is not None and getattr(options, "model", model_file) is None:
        options = replace(options, model=model_file)
    return RETRIEVERS[type(options)](collection, options, progress)


def reads_global(options: Any) -> bool:
    """Whether a retriever compares global descriptors, which no two models have in common."""
    return isinstance(options, GlobalRetrieval | FusedRetrieval)


def reads_index(options: Any) -> bool:
    """Whether the retriever of some options reads the built index of a collection (`delf.indexing`)."""
    return isinstance(options, VoteOptions) or isinstance(getattr(options, "local", None), VoteOptions)
