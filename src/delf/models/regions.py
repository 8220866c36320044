"""The regions of R-MAC (Tolias et al., ICLR 2016): where its maxima are taken."""

from __future__ import annotations


def regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """(top, left, side) of the square regions of R-MAC, in cells."""
    short, long = min(height, width), max(height, width)
    # The number of regions along the long side whose overlap comes nearest to 40 %.
    steps = range(2, 8)
    overlaps = [abs((short**2 - short * (long - short) / (n - 1)) / short**2 - 0.4) for n in steps]
    extra = 0 if long == short else 1 + overlaps.index(min(overlaps))
    result = []
    for level in range(1, levels + 1):
        side = max(1, int(2 * short / (level + 1)))
        rows, columns = level + (extra if height > width else 0), level + (extra if width > height else 0)
        result += [(top, left, side) for top in _starts(height, side, rows) for left in _starts(width, side, columns)]
    return result


def _starts(length: int, side: int, count: int) -> list[int]:
    if count == 1:
        return [(length - side) // 2]
    return [i * (length - side) // (count - 1) for i in range(count)]
