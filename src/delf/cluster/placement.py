"""Which segments lie on which machines.

Machines are asked in the order of a hash of segment and machine (rendezvous hashing, Thaler and Ravishankar 1998), so
that one that comes or goes moves few segments. One that has its share of the images already is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from delf.cluster.parts import Slice

_ROOM = 1.25  # of an even share of the images, that a machine takes


def placed(slices: Sequence[Slice], machines: Sequence[str], replicas: int) -> Mapping[str, tuple[str, ...]]:
    """The machines of each segment, by the ids of slices: so many different ones, or all that there are.

    Args:
        machines: their ids. replicas: how many machines are to have each segment.
    """
    if not machines:
        return {one.id: () for one in slices}
    copies = min(max(replicas, 1), len(machines))
    load = dict.fromkeys(machines, 0)
    most = max(_ROOM * copies * sum(one.images for one in slices) / len(machines),
               max((one.images for one in slices), default=0))
    chosen = {}
    for one in slices:
        order = sorted(machines, key=lambda machine, name=one.name: _hash(name, machine))  # type: ignore[misc]
        free = [machine for machine in order if load[machine] + one.images <= most]
        full = sorted((machine for machine in order if machine not in free), key=lambda machine: load[machine])
        chosen[one.id] = tuple((free + full)[:copies])
        for machine in chosen[one.id]:
            load[machine] += one.images
    return chosen


def _hash(segment: str, machine: str) -> bytes:
    return hashlib.blake2b(f"{segment} {machine}".encode(), digest_size=8).digest()
