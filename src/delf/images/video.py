"""Videos as photos: the frames in which the view has become another one, and any frame by its time.

    scene_frames(path, options) -> Frame, Frame, ...        read_frame(path, second) -> Frame

FFmpeg decodes (by PyAV, the extra `video`). It is given an opened file and the demuxers of a few formats, so that a
playlist which calls itself a video opens nothing else. Frames come one by one, upright, and reduced to what is needed.
Where the frames that are coded by themselves lie no further apart than frames are taken, the others are not decoded:
cameras and phones have one a second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from delf.errors import DelfError, ImageError, OptionError
from delf.images.decoding import ImageOptions, check_size
from delf.images.geometry import limit_size
from delf.images.metadata import ImageMetadata, film_metadata
from delf.images.passing import has_extra
from delf.images.paths import display_path, printable
from delf.images.sources import open_regular
from delf.settings import Options
from delf.types import FloatArray, ImageArray

_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,m4v,h264,hevc"
_COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC of FFmpeg: the cover of a record
_LOOK = 0.12  # seconds between two looks: no cut is shorter
_APART = 0.5  # seconds, over which a difference says nothing of movement
_AT_REST = 8  # times less than the change that is asked for: how little it differs from the look before
_SLACK = 1.5  # times the least distance, for keyframes: of a camera they are 1.001 seconds apart, or so
_SAME_TIME = 0.0006  # seconds, as names of frames have milliseconds
_WHOLE = 0.9  # of its length: what ends before is cut short
_FLAT = 2.0  # grey levels (standard deviation) of a reduced frame that shows nothing
_DEFAULT_IMAGES = ImageOptions()


@dataclass(frozen=True)
class VideoOptions(Options):
    """Which frames of a video are taken: the first one, each in which the view has become another one and is at rest,
    and one now and then.

    change: how different a frame must be from the last one that was taken, 0 (equal) to 2: one minus the correlation
        of the two as small grey pictures, which does not depend on their brightness.
    shortest: least number of seconds between two frames.
    longest: number of seconds after which a frame is taken in any case.
    most: most frames of one video.
    side: longest side of the small pictures, in pixels.
    """

    change: float = 0.4
    shortest: float = 2.0
    longest: float = 10.0
    most: int = 2000
    side: int = 32

    def __post_init__(self) -> None:
        if not (0 < self.change <= 2 and 0 < self.shortest <= self.longest < math.inf and self.most >= 1
                and 8 <= self.side <= 512):
            raise OptionError("the video options must satisfy 0 < change <= 2, 0 < shortest <= longest, most >= 1 and "
                              f"8 <= side <= 512, unlike {self}")


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video. second: from the beginning. pixels: (H, W, 3) uint8 RGB, upright, reduced where that was
    asked for. metadata: its size, upright and with square pixels, and what the video says of time, place and camera.
    """

    second: float
    pixels: ImageArray
    metadata: ImageMetadata


def scene_frames(path: str, options: VideoOptions, *, known: tuple[float, ...] = (), shrink_to: int | None = None,
                 images: ImageOptions = _DEFAULT_IMAGES) -> Iterator[Frame]:
    """The frames of a video that are taken, in order; memory is bounded by a few of them.

    Args:
        known: the seconds of those that were taken by an earlier call, after which it goes on. shrink_to: the longest
            side that is needed, in pixels. images: which sizes are refused.

    Raises:
        ImageError: it cannot be read, has no picture, or is damaged or cut short, after the frames that there are; or
            has more frames than are taken.
    """
    with _opened(path, images) as video:
        video.decode_keyframes_only(_SLACK * options.shortest)
        chooser = _Chooser(options, known)
        taken = len(known)
        for second, frame in video.frames(chooser.last or 0.0):
            if not chooser.takes(second, frame):
                continue
            if taken == options.most:
                raise ImageError(f"{display_path(path)} has more than {options.most:,} frames to take: the rest was "
                                 "left out. Raise the option video.most, or video.change, and it goes on from there.")
            taken += 1
            yield video.frame(second, frame, shrink_to)
        video.require_whole(taken)


def read_frame(path: str, second: float, *, shrink_to: int | None = None,
               images: ImageOptions = _DEFAULT_IMAGES) -> Frame:
    """The frame of a video that is shown at a time. Arguments and errors as for `scene_frames`."""
    with _opened(path, images) as video:
        found = None
        for at, frame in video.frames(second):
            if at > second + _SAME_TIME:
                found = found or (at, frame)
                break
            found = at, frame
        if found is None or second > found[0] + max(1.0, video.pause):
            raise ImageError(f"{display_path(path)} has no frame at {clock(second)}: it has become another video, or "
                             "is cut short.")
        return video.frame(*found, shrink_to)


def clock(second: float) -> str:
    """A time as it is read: 1:02:03, or 0:03."""
    hours, rest = divmod(int(second), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class _Chooser:
    """Says which frames are taken, one after the other. last: the second of the last one. seen: of the last look."""

    def __init__(self, options: VideoOptions, known: tuple[float, ...]) -> None:
        self._options = options
        self._resumed = max(known, default=None)
        self.last = self._resumed
        self._taken: FloatArray | None = None
        self._before: FloatArray | None = None
        self.seen = -math.inf

    def takes(self, second: float, frame: Any) -> bool:
        """Whether a frame is taken. Of one from which an earlier call has gone on, only the look is remembered."""
        if self._resumed is not None and second < self._resumed - _SAME_TIME:
            return False
        if self._taken is not None and second < self.seen + _LOOK:
            return False
        look = _look(frame, self._options.side)
        before, apart = self._before, second - self.seen
        self._before, self.seen = look, second
        if self._taken is None:
            self._taken = look
            resumed, self.last = self._resumed is not None, second if self._resumed is None else self._resumed
            return not resumed
        since = second - (self.last or 0.0)
        if since < self._options.shortest - _SAME_TIME:
            return False
        at_rest = apart > _APART or before is None or _change(before, look) < self._options.change / _AT_REST
        moved = look.any() and _change(self._taken, look) > self._options.change and at_rest
        if moved or since >= self._options.longest:
            self._taken, self.last = look, second
            return True
        return False


def _look(frame: Any, side: int) -> FloatArray:
    """A frame as a small grey picture of mean 0 and length 1; zeros where it shows nothing."""
    width, height = limit_size(frame.width, frame.height, side)
    grey = frame.reformat(width=width, height=height, format="gray", interpolation="AREA").to_ndarray()
    values = grey.astype(np.float32).ravel()
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > _FLAT * math.sqrt(values.size) else np.zeros_like(values)


def _change(one: FloatArray, other: FloatArray) -> float:
    """One minus the correlation of two looks; 1 where the frame has become another size, or shows nothing."""
    return 1.0 - float(one @ other) if one.shape == other.shape else 1.0


class _Video:
    """A video that is open. pause: the longest between two of its frames so far; end: the time of the last of them,
    decoded or not.
    """

    def __init__(self, file: BinaryIO, name: str, images: ImageOptions) -> None:
        self._file, self._name, self._images = file, name, images
        self._skip = "DEFAULT"
        self._damaged = False
        self.pause = self.end = 0.0
        self._shown = False
        self._container, self._stream = self._open()
        self._start = self._stream.start_time or 0
        self._base = self._stream.time_base or Fraction(1, 90_000)

    def _open(self) -> tuple[Any, Any]:
        import av

        self._file.seek(0)
        container = av.open(self._file, metadata_errors="replace", options={
            "format_whitelist": _FORMATS, "protocol_whitelist": "none"})
        stream = container.streams.best("video")
        if stream is None or stream.disposition.value & _COVER:
            raise ImageError(f"{self._name} has sound and no picture: leave it out.")
        if stream.codec_context is None:
            raise ImageError(f"{self._name} is coded in a way that this installation of FFmpeg does not decode: "
                             "convert it to MP4 (H.264).")
        check_size((stream.codec_context.width or 1, stream.codec_context.height or 1), self._name, self._images)
        stream.thread_type = "AUTO"
        stream.codec_context.skip_frame = self._skip
        return container, stream

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _rewind(self) -> None:
        """Begin anew: what has no index cannot be wound back in all cases."""
        self.close()
        self._container, self._stream = self._open()

    def decode_keyframes_only(self, seconds: float) -> None:
        """Decode only frames that are coded by themselves, where they lie no further apart than that (the file is
        looked through without decoding), and else all on which others depend.
        """
        last: int | None = None
        dense = True
        for packet in self._container.demux(self._stream):
            if packet.pts is None:
                continue
            dense = packet.is_keyframe if last is None else (packet.pts - last) * self._base <= seconds
            if not dense:
                break
            last = packet.pts if packet.is_keyframe else last
        self._skip = "NONKEY" if dense and last is not None else "NONREF"
        self._rewind()

    def frames(self, second: float) -> Iterator[tuple[float, Any]]:
        """The frames with their times, in order: all from a time on, and some before.

        What cannot be decoded from a keyframe on is decoded from the beginning: the first packet of H.264 may say what
        its decoder has to know (which old x264 coded it).
        """
        if second > 0:
            self._container.seek(int(second / self._base) + self._start, stream=self._stream)
            decoded = self._decoded()
            first = next(decoded, None)
            if first is not None and first[0] <= second + _SAME_TIME and not first[1].is_corrupt:
                yield from itertools.chain([first], decoded)
                return
            self._rewind()
        yield from self._decoded()

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """All frames from here on that can be decoded; those without a time are left out."""
        from av.error import FFmpegError

        last: float | None = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                found = [] if packet is None else packet.decode()
            except FFmpegError:
                self._damaged = True
                if packet is None or not packet.size:
                    return
                continue
            if packet is None:
                return
            if packet.pts is not None:
                self.end = max(self.end, float((packet.pts - self._start) * self._base))
            for frame in found:
                second = None if frame.pts is None else float((frame.pts - self._start) * self._base)
                if second is None or (last is not None and second <= last):
                    continue
                self.pause = max(self.pause, second - (second if last is None else last))
                last, self._shown = second, True
                yield max(second, 0.0), frame

    def frame(self, second: float, frame: Any, shrink_to: int | None) -> Frame:
        """A decoded frame as a picture."""
        wide = float(self._stream.sample_aspect_ratio or 1)
        width = max(1, round(frame.width * wide)) if 0.1 < wide < 10 else frame.width
        check_size((width, frame.height), self._name, self._images)
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        size = (frame.height, width) if turns % 2 else (width, frame.height)
        small = limit_size(width, frame.height, shrink_to or max(width, frame.height))
        pixels = frame.reformat(*small, format="rgb24", interpolation="AREA").to_ndarray()
        upright = np.ascontiguousarray(np.rot90(pixels, turns))
        return Frame(round(second, 3), upright, film_metadata(size, self._container.metadata, second))

    def require_whole(self, taken: int) -> None:
        """Raises `ImageError` where it could not be looked at to its end. taken: how many frames were taken."""
        if not self._shown:
            raise ImageError(f"{self._name} is a video of which no frame can be decoded: copy it again from where it "
                             "came from, or leave it out.")
        length = float((self._stream.duration or 0) * self._base)
        length = length or (self._container.duration or 0) / 1e6
        short = self.end + max(self.pause, 1.0) < _WHOLE * length
        if short or self._damaged:
            where = f"it ends at {clock(self.end)} of {clock(length)}" if short else "parts are missing"
            raise ImageError(f"{self._name} is damaged or cut short ({where}): {taken:,} of its frames could be taken. "
                             "Copy it again from where it came from.")


@contextmanager
def _opened(path: str, images: ImageOptions) -> Iterator[_Video]:
    """A video whose header has been read and found acceptable; every failure inside becomes an `ImageError`."""
    name = display_path(path)
    if not has_extra("video"):
        raise ImageError(f"{name} is a video, which the extra video reads: pip install 'delf-retrieval[video]'.")
    with open_regular(path) as file:
        if not file.read(1):
            raise ImageError(f"{name} is empty: copy it again from where it came from.")
        try:
            video = _Video(file, name, images)
            try:
                yield video
            finally:
                video.close()
        except DelfError:
            raise
        except Exception as error:  # hostile bytes make decoders fail in every way that Python knows
            detail = printable(getattr(error, "strerror", None) or str(error)) or type(error).__name__
            raise ImageError(f"{name} cannot be decoded as a video ({detail}): it is damaged or of a rare kind. Copy "
                             "it again from where it came from, or convert it to MP4 (H.264).") from error
