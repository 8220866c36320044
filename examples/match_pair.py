"""Match two photos and draw the matched points.

    python examples/match_pair.py A.jpg B.jpg [MATCHES.png]

Prints how sure one may be that both show the same thing, and where the corners of the first are in the second.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from delf import DelfError, match, read_image
from delf.report.drawing import save_matches


def match_pair(first: Path, second: Path, picture: Path) -> None:
    """Match two photos, say what was found, and draw it into `picture` (.png or .jpg)."""
    photos = read_image(first), read_image(second)
    pair = match(*photos)
    print(f"{pair.inliers} inliers of {pair.tentative} tentative matches, probability {pair.probability:.0%}")
    if pair.transform is not None:
        height, width = photos[0].shape[:2]
        corners = np.array([(0, 0, 1), (width - 1, 0, 1), (width - 1, height - 1, 1), (0, height - 1, 1)])
        x, y, w = pair.transform @ corners.T  # the transform acts on columns (x, y, 1)
        print("corners at", ", ".join(f"({a:.0f}, {b:.0f})" for a, b in zip(x / w, y / w, strict=True)))
    save_matches(picture, *photos, pair, names=(first.name, second.name))
    print(f"The matched points are drawn in {picture}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        match_pair(*map(Path, [*sys.argv[1:], "matches.png"][:3]))
    except DelfError as error:
        sys.exit(str(error))
