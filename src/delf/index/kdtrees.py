"""k-d trees, one in the cell of each coarse word (Bentley, CACM 1975): in which leaf a vector is, how far leaves are.

A node compares one coordinate, that which varies most there, with the median that it had in the sample. Below some node
on each way down, a subtree is a part, whose features have a quantiser of their own; what is at the end of the way is a
leaf, whose features lie together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray

LEAST_SHARE = 0.25  # of a node's members that are to be on each side, or it is not split: the depth stays logarithmic


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees of W words with L leaves in P parts, both numbered tree after tree and from the left.

    roots: (W,) int32. axes, children: (N,) and (N, 2) int32 of inner nodes, values: (N,) float32. A vector goes to the
    second child where its coordinate is not below the value. Roots and children are numbers of nodes, or ~leaf; that of
    a child is higher than that of its parent. firsts: (W + 1,) int32, the first leaf of each word. parts: (L,) int32,
    the part of each leaf.
    """

    roots: NDArray[np.int32]
    axes: NDArray[np.int32]
    children: NDArray[np.int32]
    values: FloatArray
    firsts: NDArray[np.int32]
    parts: NDArray[np.int32]

    def leaves(self, vectors: FloatArray, words: IntArray) -> IntArray:
        """(N,) the leaves of vectors (N, D) in the trees of their words."""
        at = self.roots[words].astype(np.int64)
        going = np.flatnonzero(at >= 0)
        while len(going):
            nodes = at[going]
            second = vectors[going, self.axes[nodes]] >= self.values[nodes]
            at[going] = self.children[nodes, second.astype(np.int64)]
            going = going[at[going] >= 0]
        return ~at

    def distances(self, word: int, queries: FloatArray) -> NDArray[np.float64]:
        """(Q, leaves of the word) squared distances from queries (Q, D) to the boxes of the leaves, from the left."""
        first, stop = self.firsts[word : word + 2]
        found = np.zeros((len(queries), int(stop - first)))
        unbounded = np.full(queries.shape[1], np.inf)
        todo = [(int(self.roots[word]), -unbounded, unbounded)]
        while todo:
            node, low, high = todo.pop()
            if node < 0:
                outside = np.maximum(np.maximum(low - queries, queries - high), 0.0)
                found[:, ~node - first] = np.square(outside).sum(axis=1)
                continue
            axis, value = self.axes[node], self.values[node]
            below, above = high.copy(), low.copy()
            below[axis], above[axis] = min(high[axis], value), max(low[axis], value)
            todo += [(int(self.children[node, 0]), low, below), (int(self.children[node, 1]), above, high)]
        return found

    def is_sound(self, dimensions: int) -> bool:
        """Whether numbers are of nodes, leaves, parts and coordinates that there are, so that each way has an end."""
        nodes, leaves = len(self.axes), len(self.parts)
        ends = np.concatenate([self.roots, self.children.ravel()])
        inner = self.children >= 0
        starts = self.firsts[1:-1]
        return bool((ends < nodes).all() and (~ends < leaves).all()
                    and (self.children[inner] > np.nonzero(inner)[0]).all()
                    and ((self.axes >= 0) & (self.axes < dimensions)).all()
                    and self.firsts[0] == 0 and self.firsts[-1] == leaves and (np.diff(self.firsts) > 0).all()
                    and self.parts[0] == 0 and np.isin(np.diff(self.parts), (0, 1)).all()
                    and (np.diff(self.parts)[starts - 1] == 1).all()
                    and self._each_word_has_its_leaves())

    def _each_word_has_its_leaves(self) -> bool:
        """Whether the trees lead to each leaf once, and that of a word to its own ones."""
        words = np.full(len(self.axes) + len(self.parts), -1)  # nodes, and then leaves
        words[np.where(self.roots >= 0, self.roots, len(self.axes) + ~self.roots)] = np.arange(len(self.roots))
        for node, two in enumerate(self.children):
            words[np.where(two >= 0, two, len(self.axes) + ~two)] = words[node]
        of_leaves = words[len(self.axes) :]
        ends = np.concatenate([self.roots, self.children.ravel()])
        return (len(np.unique(ends)) == len(ends) == len(words)
                and np.array_equal(of_leaves, np.repeat(np.arange(len(self.roots)), np.diff(self.firsts))))


@dataclass
class _Growing:
    """Nodes, leaves and parts so far."""

    axes: list[int]
    values: list[float]
    children: list[list[int]]
    parts: list[int]
    next_part: int = 0

    def new_part(self) -> int:
        """The number of a further part."""
        self.next_part += 1
        return self.next_part - 1


def grow(vectors: FloatArray, words: IntArray, count: int, *, part: float, leaf: float, least: int = 8) -> Forest:
    """Grow the trees of so many words from a sample (S, D) and its words (S,).

    Args:
        part: members of the sample that a part has fewer of.
        leaf: members that a leaf has fewer of; a part that has fewer already is a leaf.
        least: members that either side of a split has at least. Where there are too few, what is left is a leaf,
            however many it has.
    """
    growing = _Growing([], [], [], [])
    order = np.argsort(words, kind="stable")
    ends = np.cumsum(np.bincount(words, minlength=count))
    roots, firsts = [], [0]
    for members in np.split(order, ends[:-1]):
        roots.append(_node(growing, vectors, members, None, (part, leaf, least)))
        firsts.append(len(growing.parts))
    return Forest(np.array(roots, np.int32), np.array(growing.axes, np.int32),
                  np.array(growing.children, np.int32).reshape(-1, 2), np.array(growing.values, np.float32),
                  np.array(firsts, np.int32), np.array(growing.parts, np.int32))


def _node(growing: _Growing, vectors: FloatArray, members: IntArray, part: int | None,
          sizes: tuple[float, float, int]) -> int:
    """Add a node for some members and all below it; its number, or ~leaf. part: in which it is, None above parts."""
    most, leaf, least = sizes
    if part is None and len(members) < most:
        part = growing.new_part()
    divided = _halves(vectors, members, least) if part is None or len(members) >= leaf else None
    if divided is None:
        growing.parts.append(growing.new_part() if part is None else part)
        return ~(len(growing.parts) - 1)
    axis, value, halves = divided
    number = len(growing.axes)
    growing.axes.append(axis)
    growing.values.append(value)
    growing.children.append([0, 0])
    growing.children[number] = [_node(growing, vectors, half, part, sizes) for half in halves]
    return number


def _halves(vectors: FloatArray, members: IntArray, least: int) -> tuple[int, float, list[IntArray]] | None:
    """The coordinate that varies most, its median, and the members below it and the others; None where too few are on
    one side.
    """
    if len(members) < 2 * least:
        return None
    own = vectors[members]
    axis = int(own.var(axis=0, dtype=np.float64).argmax())
    value = np.float32(np.median(own[:, axis]))
    second = own[:, axis] >= value
    halves = [members[~second], members[second]]
    if min(map(len, halves)) < max(least, LEAST_SHARE * len(members)):
        return None
    return axis, float(value), halves


def arrays(forest: Forest) -> dict[str, NDArray[Any]]:
    """The arrays of a forest by name."""
    return {field.name: getattr(forest, field.name) for field in fields(forest)}
