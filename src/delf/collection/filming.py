"""Videos among the photos: each frame that is taken is a photo, and a video is known as a whole when all are there.

The catalogue has a file for each frame, under the name of the frame (`delf.images.frames`), with size and time of the
video; and one for the video itself, which is written last. So a video that was left in the middle is known by what
there is of it, and is gone on with from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from delf.collection.catalogue import Catalogue
from delf.collection.records import FileRecord
from delf.errors import CollectionError, ImageError, OptionError
from delf.images import LoadedImage, VideoOptions, display_path, load_scenes
from delf.images.frames import as_frame, frame_key, frame_path


def filming_options(catalogue: Catalogue, asked: VideoOptions | bool) -> VideoOptions | None:
    """Which frames are taken: as is asked for, which the collection remembers, or as the last time; none for False."""
    if asked is False:
        return None
    before = catalogue.about().get("videos")
    if asked is not True and asdict(asked) != before:
        catalogue.say({"videos": asdict(asked)})
    try:
        return VideoOptions(**(before or {})) if asked is True else asked
    except (TypeError, OptionError) as error:
        raise CollectionError(f"the catalogue has invalid options for the frames of videos ({error}); give them by "
                              "--set video.longest=10, or in Python by videos=VideoOptions()") from error


class Filming:
    """The videos of one run of `Adding`. more: how many frames were met beside one for each video."""

    def __init__(self, catalogue: Catalogue, options: VideoOptions, link: Callable[[FileRecord, int], None]) -> None:
        """link: notes the file of an image that the collection has."""
        self._catalogue, self._options, self._link = catalogue, options, link
        self._done: list[tuple[FileRecord, set[bytes]]] = []
        self.more = 0

    def frames(self, video: FileRecord, path: Path,
               shrink_to: int | None) -> Iterator[tuple[FileRecord, LoadedImage]]:
        """The frames of a video that the catalogue does not know. Raises `ImageError` as `load_scenes` does."""
        frames = self._known(video)
        copied = [] if frames else list(self._of_copy(video, path))
        for record, image in copied:
            self._link(record, image)
            self.more += 1
        if not copied:
            for second, loaded in load_scenes(str(path), self._options, known=_seconds(frames), shrink_to=shrink_to):
                record = _frame(video, second)
                frames.add(record.path)
                self.more += 1
                yield record, loaded
        if _version(path) != (video.size, video.mtime_ns):
            raise ImageError(f"{display_path(path)} was changed while it was read: try again when nothing writes to it "
                             "any more.")
        self.more -= 1
        self._done.append((video, frames | {record.path for record, _ in copied}))

    def finished(self) -> tuple[list[tuple[FileRecord, int]], list[bytes]]:
        """The videos of which all frames are published by now, each with the image of its first frame; and the frames
        of what was in these files before.
        """
        whole, gone, waiting = list[tuple[FileRecord, int]](), list[bytes](), []
        for video, frames in self._done:
            if frames <= self._known(video):
                key = self._catalogue.key_of(_frame(video, min(_seconds(frames))).path)
                image = None if key is None else self._catalogue.image_of(key)
                whole += [] if image is None else [(video, image)]
                gone += [name for name, *_ in self._catalogue.frames_of(video.path) if name not in frames]
            else:
                waiting.append((video, frames))
        self._done = waiting
        return whole, gone

    def _known(self, video: FileRecord) -> set[bytes]:
        """The frames of a video that are published, of what it is now."""
        return {name for name, *version in self._catalogue.frames_of(video.path)
                if version == [video.size, video.mtime_ns]}

    def _of_copy(self, video: FileRecord, path: Path) -> Iterator[tuple[FileRecord, int]]:
        """The frames of a video with the very same content that is known as a whole, as frames of this one, with their
        images.
        """
        first = self._catalogue.image_of(bytes.fromhex(frame_key(path, 0.0)))
        for name in [] if first is None else self._catalogue.files_of(first):
            other = as_frame(name)
            if other is None or other[0] == video.path or self._catalogue.file(other[0]) is None:
                continue
            for frame, *_ in self._catalogue.frames_of(other[0]):
                key = self._catalogue.key_of(frame)
                image = None if key is None else self._catalogue.image_of(key)
                if image is not None:
                    yield _frame(video, _seconds([frame])[0]), image
            return


def _version(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _frame(video: FileRecord, second: float) -> FileRecord:
    return replace(video, path=frame_path(video.path, second), shown=frame_path(video.shown, second))


def _seconds(frames: Iterable[bytes]) -> tuple[float, ...]:
    return tuple(found[1] for name in frames if (found := as_frame(name)) is not None)
