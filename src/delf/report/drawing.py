"""Pictures of evidence: the matched points of two images, and the features of one."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from delf.errors import OptionError
from delf.files import write_atomically
from delf.report.evidence import (
    Outlines,
    colour_ramp,
    counted,
    drawn_lines,
    line_opacity,
    order_colours,
    percent,
    printable,
)
from delf.report.layout import Layout, Panel, arrange
from delf.settings import Options
from delf.types import Box, Features, ImageArray, ImageMatch
from delf.verdicts import NO_MATCH, NOT_EXAMINED, PERHAPS, SAME, Verdicts

BACKGROUND = (22, 24, 29)
TEXT = (240, 241, 244)
QUIET_TEXT = (168, 173, 184)
OUTLINE = (255, 255, 255)
SHADE = (12, 13, 16)
VERDICT_COLOURS = {SAME: (38, 126, 84), PERHAPS: (150, 96, 14), NO_MATCH: (88, 93, 104), NOT_EXAMINED: (88, 93, 104)}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SUBPIXEL_BITS = 4  # cv2 takes coordinates as integers with this many fractional bits


@dataclass(frozen=True)
class DrawingOptions(Options):
    """max_width, max_height: of the pictures, in pixels, the caption not counted. max_lines: inliers drawn.

    patch: diameter of the circle of a feature of scale 1, in pixels of the original (`draw_keypoints`).
    """

    max_width: int = 1600
    max_height: int = 1200
    max_lines: int = 150
    patch: float = 16.0
    verdicts: Verdicts = field(default_factory=Verdicts)

    def __post_init__(self) -> None:
        if self.max_width < 320 or self.max_height < 320 or self.max_lines < 0:
            raise OptionError(f"A drawing needs max_width and max_height of at least 320 pixels and max_lines of "
                              f"at least 0, not {self.max_width}, {self.max_height} and {self.max_lines}.")


def draw_matches(
    image0: ImageArray, image1: ImageArray, match: ImageMatch, *,
    names: tuple[str, str] = ("query", "result"), box: Box | None = None,
    options: DrawingOptions = DrawingOptions(),
) -> ImageArray:
    """The evidence for a match as one picture: (H, W, 3) uint8.

    The query `image0` is left and the result `image1` right (stacked where both are wide), with a line for each
    inlier pair from gold (most similar) to violet, the outline of the query (or of its `box`) on the result, or the
    other way round (see `Outlines`), unless the verdict is "no match", and a caption with the `names`, the counts and
    the verdict.
    """
    layout = arrange(_size(image0), _size(image1), (options.max_width, options.max_height))
    canvas = _paste(layout, image0, image1)
    # An outline says "here it is", so there is none where the verdict is that it is not.
    found = options.verdicts.word(match.probability) != NO_MATCH
    outlines = Outlines.of(match.transform if found else None, _size(image0), _size(image1), box)
    for panel, polygon in ((layout.query, outlines.query), (layout.database, outlines.database)):
        if polygon is not None:
            _polygon(_window(canvas, panel), panel.place(polygon) - (panel.x, panel.y))
    lines = drawn_lines(match.inlier_points, _size(image0), _size(image1), options.max_lines)
    _draw_lines(canvas, layout, match, lines)
    return _with_caption(canvas, match, len(lines), outlines.words, names, options)


def save_matches(
    path: str | Path, image0: ImageArray, image1: ImageArray, match: ImageMatch, *,
    names: tuple[str, str] = ("query", "result"), box: Box | None = None,
    options: DrawingOptions = DrawingOptions(),
) -> None:
    """`draw_matches` into a file; see `save_picture`."""
    picture_format(path)  # raises for a wrong suffix before the work is done
    save_picture(path, draw_matches(image0, image1, match, names=names, box=box, options=options))


def draw_keypoints(
    image: ImageArray, features: Features, attention: NDArray[np.float32] | None = None, *,
    options: DrawingOptions = DrawingOptions(),
) -> ImageArray:
    """The features of an image as circles: (H, W, 3) uint8, scaled down to the size of the options.

    A circle grows with the scale of its feature; its colour goes from violet (lowest score) to gold (highest).
    The photo is dimmed so that they show; `attention`, (h, w) of any size, keeps its light where it is high.
    """
    height, width = image.shape[:2]
    factor = min(1.0, options.max_width / width, options.max_height / height)
    panel = Panel(0, 0, max(1, int(width * factor)), max(1, int(height * factor)), (width, height))
    canvas = _dimmed(_resized(image, panel), np.full((1, 1), 0.4) if attention is None else _normalised(attention))
    inside = ((features.keypoints >= -0.5) & (features.keypoints <= np.array([width, height]) - 0.5)).all(axis=1)
    usable = np.flatnonzero(inside & np.isfinite(features.scales))
    weakest_first = usable[np.argsort(features.scores[usable], kind="stable")]
    colours = colour_ramp(1.0 - _normalised(features.scores[weakest_first]))
    centres = panel.place(features.keypoints[weakest_first])
    radii = np.clip(features.scales[weakest_first] * (options.patch / 2 * factor), 2.0, max(canvas.shape))
    for centre, radius, colour in zip(centres, radii, colours, strict=True):
        _circle(canvas, centre, float(radius), _rgb(colour), thickness=1)
    return canvas


def draw_attention(image: ImageArray, features: Features, attention: NDArray[np.float32], *,
                   options: DrawingOptions = DrawingOptions()) -> ImageArray:
    """The photo, light where attention is high, beside (or above) the features that were selected by it."""
    wide = image.shape[1] > image.shape[0]
    half = replace(options, max_height=max(320, options.max_height // 2)) if wide else \
        replace(options, max_width=max(320, options.max_width // 2))
    nothing = features.select(slice(0))
    panels = [draw_keypoints(image, nothing, attention, options=half), draw_keypoints(image, features, options=half)]
    axis = 0 if wide else 1
    shape = list(panels[0].shape)
    shape[axis] = 8
    return np.concatenate([panels[0], np.full(shape, BACKGROUND, np.uint8), panels[1]], axis=axis)


def save_picture(path: str | Path, picture: ImageArray) -> None:
    """Write a picture as PNG or JPEG, by the suffix of `path`: the whole file or nothing.

    Raises:
        DelfError: the suffix is another one, or the place cannot be written.
    """
    buffer = io.BytesIO()
    if picture_format(path) == "PNG":
        Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=92, subsampling=0)  # else lines turn grey
    write_atomically(Path(path), buffer.getvalue())


def picture_format(path: str | Path) -> str:
    """"PNG" or "JPEG", by the suffix of `path`.

    Raises:
        OptionError: the suffix is another one.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise OptionError(f"{str(path)!r} does not say what kind of picture to write: end the name in .png or "
                        f".jpg.")
    return formats[suffix]


def _size(image: ImageArray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _resized(image: ImageArray, panel: Panel) -> ImageArray:
    shrinks = panel.width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (panel.width, panel.height), interpolation=method), np.uint8)


def _paste(layout: Layout, image0: ImageArray, image1: ImageArray) -> ImageArray:
    canvas = np.full((layout.height, layout.width, 3), BACKGROUND, np.uint8)
    for panel, image in ((layout.query, image0), (layout.database, image1)):
        _window(canvas, panel)[:] = _resized(image, panel)
    return canvas


def _window(canvas: ImageArray, panel: Panel) -> ImageArray:
    """The view of the canvas that is the panel: what is drawn there stays inside the panel."""
    return canvas[panel.y : panel.y + panel.height, panel.x : panel.x + panel.width]


def _draw_lines(canvas: ImageArray, layout: Layout, match: ImageMatch, rows: NDArray[np.int64]) -> None:
    points = np.asarray(match.inlier_points, np.float64).reshape(-1, 4)
    colours = order_colours(rows, len(points))
    starts, ends = layout.query.place(points[rows, :2]), layout.database.place(points[rows, 2:])
    overlay = canvas.copy()
    thickness = 2 if len(rows) <= 30 else 1
    last_on_top = list(zip(starts, ends, colours, strict=True))[::-1]  # the most similar
    for start, end, colour in last_on_top:
        if thickness == 2:
            _line(overlay, start, end, SHADE, thickness + 2)
        _line(overlay, start, end, _rgb(colour), thickness)
    canvas[:] = _blend(overlay, canvas, line_opacity(len(rows)))
    radius = 4.0 if thickness == 2 else 3.0
    for start, end, colour in last_on_top:
        for point in (start, end):
            _circle(canvas, point, radius + 1.2, SHADE, cv2.FILLED)
            _circle(canvas, point, radius, _rgb(colour), cv2.FILLED)


def _with_caption(
    canvas: ImageArray, match: ImageMatch, lines: int, outlined: str, names: tuple[str, str], options: DrawingOptions
) -> ImageArray:
    """The canvas, widened for the text where it is narrow, above a bar with names, counts and verdict."""
    height, width = canvas.shape[:2]
    total = max(width, 480)
    page = Image.new("RGB", (total, height + 76), BACKGROUND)
    page.paste(Image.fromarray(canvas), ((total - width) // 2, 0))
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(19), ImageFont.load_default(15)

    word = options.verdicts.word(match.probability)
    label = f"{word}  {percent(match.probability)}"
    label_width = draw.textlength(label, font=large)
    left = total - label_width - 40
    draw.rounded_rectangle((left, height + 20, total - 16, height + 56), 18, fill=VERDICT_COLOURS[word])
    draw.text((left + label_width / 2 + 12, height + 38), label, TEXT, large, anchor="mm")

    facts = f"{counted(match.inliers, 'inlier')} of {counted(match.tentative, 'tentative match')}"
    if lines < match.inliers:
        facts += f", {lines} drawn"
    room = left - 32
    legend = [facts]
    if lines:
        legend.append("gold for the most alike")
    if outlined:
        legend.append(f"outlined: {outlined}")
    while len(legend) > 1 and draw.textlength(";  ".join(legend), font=small) > room:
        legend.pop()
    facts = ";  ".join(legend)
    draw.text((16, height + 27), _names_line(names, room, draw, large), TEXT, large, anchor="lm")
    draw.text((16, height + 53), _shortened(facts, room, draw, small), QUIET_TEXT, small, anchor="lm")
    return np.array(page)


def _names_line(names: tuple[str, str], room: float, draw: ImageDraw.ImageDraw, font: Font) -> str:
    """Both names, each cut to what is left beside the other."""
    query, result = (_plain(name) for name in names)
    middle = "  and  "
    half = (room - draw.textlength(middle, font=font)) / 2
    spare = max(0.0, half - draw.textlength(result[-400:], font=font))
    query = _shortened(query, half + spare, draw, font)
    result = _shortened(result, 2 * half - draw.textlength(query, font=font), draw, font)
    return query + middle + result


def _plain(name: str) -> str:
    """A name in the letters of Pillow's bundled font, which are ASCII: accents dropped, other letters as escapes."""
    decomposed = unicodedata.normalize("NFKD", printable(name))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return bare.encode("ascii", "backslashreplace").decode("ascii")


def _shortened(text: str, room: float, draw: ImageDraw.ImageDraw, font: Font) -> str:
    """`text`, or its end after an ellipsis where it is too long: the end of a path says most."""
    if len(text) <= 400 and draw.textlength(text, font=font) <= room:
        return text
    tail = text[-400:]
    while tail and draw.textlength("..." + tail, font=font) > room:
        tail = tail[1:]
    return "..." + tail


def _dimmed(canvas: ImageArray, light: NDArray[np.float64]) -> ImageArray:
    """The canvas at a quarter of its brightness where `light`, (h, w) of any size, is 0, and at all of it where 1."""
    height, width = canvas.shape[:2]
    spread = np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR))
    return (canvas * (0.25 + 0.75 * spread[:, :, None])).astype(np.uint8)


def _normalised(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values stretched to 0..1; all 1 where they do not differ, and 0 for what is not a number."""
    numbers = np.nan_to_num(np.asarray(values, np.float64))
    low, high = numbers.min(initial=np.inf), numbers.max(initial=-np.inf)
    return (numbers - low) / (high - low) if high > low else np.ones_like(numbers)


def _blend(over: ImageArray, under: ImageArray, opacity: float) -> ImageArray:
    return np.asarray(cv2.addWeighted(over, opacity, under, 1.0 - opacity, 0.0), np.uint8)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """A canvas point as cv2 wants it: pixel centres at whole numbers, `SUBPIXEL_BITS` fractional bits."""
    x, y = np.rint((point - 0.5) * (1 << SUBPIXEL_BITS)).astype(int)
    return int(x), int(y)


def _rgb(colour: NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = colour.tolist()
    return red, green, blue


def _line(
    canvas: ImageArray, start: NDArray[np.float64], end: NDArray[np.float64], colour: tuple[int, int, int],
    thickness: int,
) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _circle(
    canvas: ImageArray, centre: NDArray[np.float64], radius: float, colour: tuple[int, int, int],
    thickness: int,
) -> None:
    cv2.circle(canvas, _fixed(centre), round(radius * (1 << SUBPIXEL_BITS)), colour, thickness, cv2.LINE_AA,
               SUBPIXEL_BITS)


def _polygon(canvas: ImageArray, points: NDArray[np.float64]) -> None:
    """An outline that shows on light and dark ground; points on the edge of the canvas are moved just inside."""
    inside = np.clip(points, 1.5, np.maximum(1.5, np.array(canvas.shape[1::-1]) - 1.5))
    vertices = np.array([_fixed(point) for point in inside])
    for colour, thickness in ((SHADE, 4), (OUTLINE, 2)):
        cv2.polylines(canvas, [vertices], True, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
