"""Retrieval: the first half of a search, which finds candidate images for a query, before any geometry.

A retriever is made by its options; to add one, add a file and a line to `RETRIEVERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delf.collection import Collection
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.votes import VoteOptions, VoteRetriever

__all__ = ["RETRIEVERS", "AsmkRetrieval", "Mask", "Retriever", "VoteOptions", "open_retriever"]

RETRIEVERS: dict[type, Callable[[Collection, Any], Retriever]] = {
    VoteOptions: VoteRetriever, AsmkRetrieval: AsmkRetriever}
"""The retriever of each kind of options."""


def open_retriever(collection: Collection, options: Any) -> Retriever:
    """The retriever that its options ask for, on a collection."""
    return RETRIEVERS[type(options)](collection, options)
