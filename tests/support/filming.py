"""Videos made of photos: each is panned over, and cut or faded to the next one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from delf.types import ImageArray

TURNED = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # to be shown a quarter to the right


@dataclass(frozen=True)
class Shot:
    """A photo that is panned over. seconds: how long; travel: how far, in parts of its width; fade: seconds over which
    it comes out of the shot before.
    """

    photo: ImageArray
    seconds: float
    travel: float = 0.05
    fade: float = 0.0


def pictures(shots: Sequence[Shot], size: tuple[int, int], rate: int) -> Iterator[tuple[float, ImageArray]]:
    """The frames with their times. size: (width, height)."""
    last, begins = np.zeros((size[1], size[0], 3), np.uint8), 0.0
    for shot in shots:
        wide = cv2.resize(shot.photo, (size[0] * 5 // 4, size[1]), interpolation=cv2.INTER_AREA)
        picture = last
        for number in range(round(shot.seconds * rate)):
            second = number / rate
            left = min(shot.travel * second / shot.seconds, 0.25) * size[0]
            picture = cv2.warpAffine(wide, np.array([[1, 0, -left], [0, 1, 0]], np.float32), size)
            share = min(1.0, second / shot.fade) if shot.fade else 1.0
            yield begins + second, cv2.addWeighted(picture, share, last, 1 - share, 0)
        last, begins = picture, begins + shot.seconds


def film(path: Path, shots: Sequence[Shot], *, size: tuple[int, int] = (320, 240), rate: int = 10,
         codec: str = "libx264", tags: dict[str, str] | None = None, drop: Any = lambda second: False,
         **coding: str) -> Path:
    """Write a video. drop: which frames are left out, by their times, so that the rate varies. coding: of the codec."""
    import av

    keep = {"movflags": "use_metadata_tags"} if tags else {}
    with av.open(str(path), "w", options=keep) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=rate, options=coding)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for second, picture in pictures(shots, size, rate):
            if not drop(second):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = round(second * rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turned(path: Path) -> Path:
    """The same MP4, said to be shown a quarter turn to the right, as phones do."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 44  # of the matrix, in a box of version 0
    data[place:place + 36] = TURNED
    path.write_bytes(data)
    return path
