"""What people and programs put over and around photos: captions, watermarks, screens, frames.

Two photos of different places with one and the same overlay are no match, and two photos of one place remain one
whatever is around them. Probabilities are fitted with such pairs, and measured with them (`benchmarks/overlays.py`).
All is drawn here, by the seed of an overlay, in Pillow's own font.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from delf.errors import OptionError
from delf.types import ImageArray

Colour = tuple[int, int, int]
Placed = tuple[Image.Image, float, float, float]  # the new picture; scale, left and top of the photo in it
WORDS = ("archive", "family", "photo", "city", "travel", "museum", "press", "north", "library", "images", "summer",
         "agency", "heritage", "old", "town", "collection", "stock", "view", "record", "journal", "gallery", "studio",
         "memory", "south", "grand", "tour", "royal", "society", "market", "river", "bridge", "union", "daily",
         "light", "garden", "national")
BUTTONS = ("Share", "Edit", "Delete", "Like", "Comment", "Send", "Save", "Home", "Search", "Profile", "Back", "More",
           "Info", "Download", "Next", "Album", "Map", "Tags", "Follow", "Reply", "File", "View", "Tools", "Help",
           "Inbox")


@dataclass(frozen=True, eq=False)
class Overlaid:
    """pixels: (H, W, 3) of the photo with its overlay. transform: (3, 3) from the pixels of the photo to those."""

    pixels: ImageArray
    transform: NDArray[np.float64]


@dataclass(frozen=True)
class Overlay:
    """One overlay, which looks the same on every photo.

    kind: a key of `OVERLAYS`. seed: of its words, sizes and colours.
    """

    kind: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in OVERLAYS:
            raise OptionError(f"The kind of an overlay must be one of {', '.join(OVERLAYS)}, not {self.kind!r}.")

    def draw(self, pixels: ImageArray) -> Overlaid:
        """An (H, W, 3) uint8 RGB photo with the overlay, saved as JPEG and read again."""
        rng = random.Random(f"{self.kind} {self.seed}")
        quality = rng.randint(70, 95)
        drawn, scale, left, top = OVERLAYS[self.kind](Image.fromarray(pixels), rng)
        saved = io.BytesIO()
        drawn.convert("RGB").save(saved, "JPEG", quality=quality)
        # Pixel centres: (p + 0.5) * scale - 0.5, as every resize with half-pixel centres has it.
        shift = (scale - 1) / 2
        return Overlaid(np.asarray(Image.open(saved), np.uint8),
                        np.array([[scale, 0, left + shift], [0, scale, top + shift], [0, 0, 1]], np.float64))


def caption_bar(photo: Image.Image, rng: random.Random) -> Placed:
    """A strip with words below, above or beside the photo, black, white or coloured."""
    edge = rng.choice(("bottom", "bottom", "bottom", "top", "left", "right"))
    back, ink = _colours(rng)
    width, height = photo.size
    lying = edge in ("top", "bottom")
    thick = max(14, round((height if lying else width) * rng.uniform(0.05, 0.13)))
    strip = Image.new("RGB", (width if lying else height, thick), back)
    draw, size = ImageDraw.Draw(strip), thick * rng.uniform(0.35, 0.6)
    draw.text((thick * 0.4, (thick - size) / 2 - 1), _words(rng, 2, 3), fill=ink, font_size=size)
    small = size * rng.uniform(0.6, 1.0)
    draw.text((strip.width - thick * 0.4, thick / 2), _address(rng), fill=ink, font_size=small, anchor="rm")
    if not lying:
        strip = strip.transpose(Image.Transpose.ROTATE_90 if edge == "left" else Image.Transpose.ROTATE_270)
    left, top = (thick if edge == "left" else 0), (thick if edge == "top" else 0)
    out = Image.new("RGB", (width + (0 if lying else thick), height + (thick if lying else 0)), back)
    out.paste(photo, (left, top))
    out.paste(strip, (width if edge == "right" else 0, height if edge == "bottom" else 0))
    return out, 1.0, left, top


def caption_on_photo(photo: Image.Image, rng: random.Random) -> Placed:
    """Words over the photo, on a half-transparent band or with a shadow."""
    back, ink = _colours(rng)
    width, height = photo.size
    size = height * rng.uniform(0.04, 0.09)
    top = rng.choice((height - 2.2 * size, height - 1.6 * size, 0.6 * size))
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    if rng.random() < 0.7:
        draw.rectangle((0, top - 0.3 * size, width, top + 1.4 * size), fill=(*back, rng.randint(120, 230)))
    anchor, x = rng.choice((("la", 0.04), ("ma", 0.5), ("ra", 0.96)))
    text = _words(rng, 3, 5)
    draw.text((width * x + 1, top + 1), text, fill=(*back, 255), font_size=size, anchor=anchor)
    draw.text((width * x, top), text, fill=(*ink, 255), font_size=size, anchor=anchor)
    return _over(photo, layer), 1.0, 0, 0


def watermark_tiled(photo: Image.Image, rng: random.Random) -> Placed:
    """One half-transparent word again and again, straight or aslant."""
    width, height = photo.size
    size = max(width, height) * rng.uniform(0.03, 0.07)
    text, side = rng.choice((_words(rng, 1, 2), _address(rng))), max(width, height) * 2
    tile = Image.new("RGBA", (side, side))
    draw, alpha = ImageDraw.Draw(tile), rng.randint(70, 150)
    ink = rng.choice(((255, 255, 255), (255, 255, 255), (40, 40, 40)))
    step, across = size * rng.uniform(2.5, 5), draw.textlength(text, font_size=size) * rng.uniform(1.15, 1.6)
    for row in range(int(side / step) + 1):
        for column in range(int(side / across) + 2):
            draw.text(((column - row % 2 / 2) * across, row * step), text, fill=(*ink, alpha), font_size=size)
    tile = tile.rotate(rng.choice((0, 20, 30, 45, -30)), Image.Resampling.BICUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    return _over(photo, tile.crop((left, top, left + width, top + height))), 1.0, 0, 0


def watermark_centre(photo: Image.Image, rng: random.Random) -> Placed:
    """A large half-transparent name, or sign and name, in the middle."""
    width, height = photo.size
    layer = Image.new("RGBA", photo.size)
    draw, text = ImageDraw.Draw(layer), _words(rng, 1, 2).upper()
    size = width * rng.uniform(0.5, 0.85) / max(draw.textlength(text, font_size=100) / 100, 1)
    ink = (*rng.choice(((255, 255, 255), (255, 255, 255), (30, 30, 30))), rng.randint(90, 190))
    draw.text((width / 2, height / 2), text, fill=ink, font_size=size, anchor="mm")
    if rng.random() < 0.5:
        draw.text((width / 2, height / 2 + size * 0.8), _address(rng), fill=ink, font_size=max(size * 0.35, 8),
                  anchor="mm")
    if rng.random() < 0.5:
        layer = layer.rotate(rng.choice((-30, 30, 45)), Image.Resampling.BICUBIC)
    return _over(photo, layer), 1.0, 0, 0


def date_stamp(photo: Image.Image, rng: random.Random) -> Placed:
    """The date and time that a camera burns into a corner."""
    width, height = photo.size
    size = height * rng.uniform(0.035, 0.08)
    text = rng.choice(("{2:02}.{1:02}.{0}", "'{3:02} {1:2} {2:2}", "{0}/{1:02}/{2:02} {4:02}:{5:02}")).format(
        rng.randint(1996, 2024), rng.randint(1, 12), rng.randint(1, 28), rng.randint(0, 99), rng.randint(0, 23),
        rng.randint(0, 59))
    ink = rng.choice(((255, 140, 20), (255, 90, 30), (250, 240, 80), (255, 255, 255)))
    layer = Image.new("RGBA", photo.size)
    anchor, x = rng.choice((("rd", 0.96), ("rd", 0.96), ("ld", 0.04)))
    ImageDraw.Draw(layer).text((width * x, height * 0.96), text, fill=(*ink, 255), font_size=size, anchor=anchor)
    glow = layer.filter(ImageFilter.GaussianBlur(size / 12))
    return _over(_over(photo, glow), layer), 1.0, 0, 0


def logo(photo: Image.Image, rng: random.Random) -> Placed:
    """A sign of shapes and a name in a corner, solid or half-transparent."""
    width, height = photo.size
    side = min(width, height) * rng.uniform(0.12, 0.25)
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    left = rng.choice((side * 0.2, width - side * 1.2))
    top = rng.choice((side * 0.2, height - side * 1.2))
    alpha = rng.choice((255, 255, 160))
    for _ in range(rng.randint(3, 6)):
        x, y = left + side * rng.uniform(0, 0.5), top + side * rng.uniform(0, 0.5)
        box = (x, y, x + side * rng.uniform(0.2, 0.5), y + side * rng.uniform(0.2, 0.5))
        colour = (*_colour(rng), alpha)
        rng.choice((draw.ellipse, draw.rectangle))(box, fill=colour)
    draw.text((left + side / 2, top + side), rng.choice(WORDS).upper(), fill=(255, 255, 255, alpha),
              font_size=side * 0.24, anchor="mb", stroke_width=1, stroke_fill=(0, 0, 0, alpha))
    return _over(photo, layer), 1.0, 0, 0


def phone(photo: Image.Image, rng: random.Random) -> Placed:
    """A screenshot of a telephone: status above, buttons below, the photo fitted between them."""
    width, height = rng.choice(((360, 640), (390, 844), (480, 900), (540, 960)))
    back, ink = rng.choice((((20, 20, 24), (255, 255, 255)), ((255, 255, 255), (20, 20, 20)),
                            ((0, 0, 0), (230, 230, 230))))
    above, below = round(height * rng.uniform(0.07, 0.12)), round(height * rng.uniform(0.07, 0.2))
    out = Image.new("RGB", (width, height), rng.choice((back, back, (255, 255, 255))))
    draw, size = ImageDraw.Draw(out), height * 0.02
    draw.rectangle((0, 0, width, above), fill=back)
    draw.rectangle((0, height - below, width, height), fill=back)
    draw.text((width * 0.04, size * 0.4), f"{rng.randint(0, 23)}:{rng.randint(10, 59)}", fill=ink, font_size=size)
    draw.text((width * 0.96, size * 0.4), f"{rng.choice(('LTE', '4G', '5G'))}  {rng.randint(5, 99)}%", fill=ink,
              font_size=size, anchor="ra")
    draw.text((width * 0.05, above - size * 1.8), "  ".join(rng.sample(BUTTONS, 3)), fill=ink, font_size=size * 1.2)
    _icons(draw, rng, (0, height - below, width, height - below * 0.45), ink)
    _row(draw, rng, (0, height - below * 0.45, width, height), ink)
    return _fitted(out, photo, (0, above, width, height - below))


def browser(photo: Image.Image, rng: random.Random) -> Placed:
    """A window of a browser with tabs, an address and a column of links."""
    width, height = rng.choice(((800, 560), (900, 640), (1024, 680)))
    page, ink = rng.choice((((255, 255, 255), (30, 30, 30)), ((32, 33, 36), (230, 230, 230))))
    bar = rng.choice(((222, 225, 230), (60, 64, 67), (200, 210, 225)))
    out = Image.new("RGB", (width, height), page)
    draw = ImageDraw.Draw(out)
    draw.rectangle((0, 0, width, 74), fill=bar)
    for number in range(rng.randint(2, 4)):
        draw.rounded_rectangle((8 + number * 170, 6, 168 + number * 170, 36), 8, fill=page)
        draw.text((20 + number * 170, 14), _words(rng, 2, 3)[:22], fill=ink, font_size=13)
    draw.rounded_rectangle((90, 42, width - 60, 68), 12, fill=page)
    draw.text((104, 47), f"https://{_address(rng)}/{rng.choice(WORDS)}/{rng.randint(100, 9999)}", fill=ink,
              font_size=14)
    for number in range(3):
        draw.ellipse((12 + 24 * number, 46, 30 + 24 * number, 64), outline=ink, width=2)
    left = 0
    if rng.random() < 0.6:
        left = 170
        for number in range(rng.randint(6, 14)):
            draw.text((14, 92 + number * 30), _words(rng, 1, 2), fill=ink, font_size=15)
    draw.text((left + 16, 84), _words(rng, 3, 6).title(), fill=ink, font_size=22)
    return _fitted(out, photo, (left + 16, 116, width - 16, height - rng.randint(10, 60)))


def frame(photo: Image.Image, rng: random.Random) -> Placed:
    """A decorated frame: lines, beads or lozenges all around."""
    width, height = photo.size
    thick = max(10, round(min(width, height) * rng.uniform(0.05, 0.12)))
    back, ink = _colours(rng)
    out = Image.new("RGB", (width + 2 * thick, height + 2 * thick), back)
    draw = ImageDraw.Draw(out)
    for share in rng.sample((0.1, 0.25, 0.75, 0.9), 2):
        inset = thick * share
        draw.rectangle((inset, inset, out.width - inset, out.height - inset), outline=ink, width=max(1, thick // 12))
    style, second, radius = rng.choice(("beads", "lozenges", "plain")), _colour(rng), thick * 0.22
    for x, y in _around(out.size, thick):
        if style == "beads":
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second, outline=ink)
        elif style == "lozenges":
            draw.polygon(((x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)), fill=second, outline=ink)
    for x in (thick / 2, out.width - thick / 2):
        for y in (thick / 2, out.height - thick / 2):
            box = (x - thick * 0.4, y - thick * 0.4, x + thick * 0.4, y + thick * 0.4)
            draw.rectangle(box, fill=second, outline=ink)
            draw.line(box, fill=ink, width=2)
    out.paste(photo, (thick, thick))
    return out, 1.0, thick, thick


def scanner(photo: Image.Image, rng: random.Random) -> Placed:
    """A scan with the lid around the photo, a ruler along two edges, and a card of colours."""
    width, height = photo.size
    thick = max(16, round(min(width, height) * rng.uniform(0.08, 0.15)))
    back = rng.choice(((250, 250, 248), (25, 25, 28), (200, 200, 195)))
    ink = (10, 10, 10) if sum(back) > 300 else (240, 240, 240)
    out = Image.new("RGB", (width + 2 * thick, height + 2 * thick), back)
    draw, step = ImageDraw.Draw(out), max(4, thick // 5)
    for number, x in enumerate(range(thick, out.width, step)):
        draw.line((x, 0, x, thick * (0.5 if number % 10 == 0 else 0.2)), fill=ink)
        if number % 10 == 0:
            draw.text((x + 2, thick * 0.3), str(number // 10), fill=ink, font_size=thick * 0.4)
    for number, y in enumerate(range(thick, out.height, step)):
        draw.line((0, y, thick * (0.5 if number % 10 == 0 else 0.2), y), fill=ink)
    for number in range(rng.choice((0, 6, 8))):
        x = thick * (1 + number)
        draw.rectangle((x, out.height - thick * 0.8, x + thick * 0.9, out.height - thick * 0.15), fill=_colour(rng))
    if rng.random() < 0.5:
        draw.text((out.width - thick, out.height - thick * 0.5), f"{_words(rng, 1, 2)} {rng.randint(100, 9999)}",
                  fill=ink, font_size=thick * 0.45, anchor="rm")
    out.paste(photo, (thick, thick))
    return out, 1.0, thick, thick


def letterbox(photo: Image.Image, rng: random.Random) -> Placed:
    """Bars above and below or at both sides, mostly bare, sometimes with a time or a sign in them."""
    width, height = photo.size
    lying = rng.random() < 0.6
    bar = round((height if lying else width) * rng.uniform(0.1, 0.3))
    left, top = (0, bar) if lying else (bar, 0)
    back = rng.choice(((0, 0, 0), (0, 0, 0), (255, 255, 255), (128, 128, 128)))
    out = Image.new("RGB", (width + 2 * left, height + 2 * top), back)
    out.paste(photo, (left, top))
    if rng.random() < 0.4:
        text = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}  {rng.choice(WORDS)}"
        ImageDraw.Draw(out).text((out.width - 8, out.height - 8), text, fill=(200, 200, 60),
                                 font_size=max(10, height * 0.05), anchor="rd")
    return out, 1.0, left, top


def polaroid(photo: Image.Image, rng: random.Random) -> Placed:
    """A white card, wider below, with a line written on it."""
    width, height = photo.size
    thick, below = round(width * rng.uniform(0.03, 0.07)), round(height * rng.uniform(0.15, 0.25))
    paper = rng.choice(((252, 252, 250), (244, 238, 222), (235, 235, 240)))
    out = Image.new("RGB", (width + 2 * thick, height + thick + below), paper)
    out.paste(photo, (thick, thick))
    ImageDraw.Draw(out).text((out.width / 2, out.height - below / 2), _words(rng, 2, 4), fill=rng.choice(
        ((30, 30, 60), (90, 20, 20), (20, 20, 20))), font_size=below * rng.uniform(0.3, 0.5), anchor="mm")
    return out, 1.0, thick, thick


def film(photo: Image.Image, rng: random.Random) -> Placed:
    """A strip of film: holes along two edges, and the maker's numbers between them."""
    width, height = photo.size
    thick = max(14, round(height * rng.uniform(0.1, 0.16)))
    back, ink = rng.choice((((15, 12, 10), (255, 170, 60)), ((60, 35, 20), (255, 220, 120))))
    out = Image.new("RGB", (width, height + 2 * thick), back)
    draw, step = ImageDraw.Draw(out), thick * rng.uniform(0.7, 1.0)
    for number in range(int(width / step) + 1):
        for y in (thick * 0.35, out.height - thick * 0.85):
            x = step * (number + 0.25)
            draw.rounded_rectangle((x, y, x + step * 0.5, y + thick * 0.5), 2, fill=(245, 245, 240))
    text = f"{rng.choice(WORDS).upper()} {rng.randint(100, 800)}    {rng.randint(1, 36)}A"
    for y in (thick * 0.02, out.height - thick * 0.32):
        draw.text((width * rng.uniform(0.1, 0.4), y), text, fill=ink, font_size=thick * 0.28)
    out.paste(photo, (0, thick))
    return out, 1.0, 0, thick


OVERLAYS: dict[str, Callable[[Image.Image, random.Random], Placed]] = {
    "caption bar": caption_bar, "caption on photo": caption_on_photo, "tiled watermark": watermark_tiled,
    "watermark in the middle": watermark_centre, "date stamp": date_stamp, "logo": logo, "phone": phone,
    "browser": browser, "frame": frame, "scanner": scanner, "letterbox": letterbox, "polaroid": polaroid, "film": film}
"""Each kind of overlay by its name: a photo and the random numbers of the overlay -> the new picture, and where the
photo lies in it."""
UNTUNED = ("browser", "scanner", "film")
"""Kinds that nothing is fitted to, and that are measured apart: what people meet is not drawn here."""
TUNED = tuple(kind for kind in OVERLAYS if kind not in UNTUNED)


def _over(photo: Image.Image, layer: Image.Image) -> Image.Image:
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def _fitted(out: Image.Image, photo: Image.Image, box: tuple[int, int, int, int]) -> Placed:
    """The photo as large as it fits into a box of a picture, in its middle."""
    scale = min((box[2] - box[0]) / photo.width, (box[3] - box[1]) / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    left, top = (box[0] + box[2] - size[0]) // 2, (box[1] + box[3] - size[1]) // 2
    out.paste(photo.resize(size, Image.Resampling.LANCZOS), (left, top))
    return out, scale, left, top


def _icons(draw: ImageDraw.ImageDraw, rng: random.Random, box: tuple[float, float, float, float], ink: Colour) -> None:
    """A row of simple signs."""
    left, top, right, bottom = box
    number = rng.randint(3, 5)
    radius = (bottom - top) * 0.28
    for place in range(number):
        x, y = left + (right - left) * (place + 0.5) / number, (top + bottom) / 2
        square = (x - radius, y - radius, x + radius, y + radius)
        sign = rng.choice(("circle", "square", "triangle", "cross", "dots"))
        if sign == "circle":
            draw.ellipse(square, outline=ink, width=2)
        elif sign == "square":
            draw.rounded_rectangle(square, radius / 3, outline=ink, width=2)
        elif sign == "triangle":
            draw.polygon(((x - radius, y + radius), (x, y - radius), (x + radius, y + radius)), outline=ink)
        elif sign == "cross":
            draw.line((*square[:2], *square[2:]), fill=ink, width=2)
            draw.line((square[0], square[3], square[2], square[1]), fill=ink, width=2)
        else:
            for shift in (-radius, 0, radius):
                draw.ellipse((x + shift - 2, y - 2, x + shift + 2, y + 2), fill=ink)


def _row(draw: ImageDraw.ImageDraw, rng: random.Random, box: tuple[float, float, float, float], ink: Colour) -> None:
    """A row of words as buttons have."""
    left, top, right, bottom = box
    names = rng.sample(BUTTONS, rng.randint(3, 4))
    for place, name in enumerate(names):
        draw.text((left + (right - left) * (place + 0.5) / len(names), (top + bottom) / 2), name, fill=ink,
                  font_size=(bottom - top) * 0.35, anchor="mm")


def _around(size: tuple[int, int], thick: int) -> list[tuple[float, float]]:
    """Places along the middle of a frame, at equal steps."""
    width, height = size
    xs = np.linspace(thick, width - thick, max(2, round(width / thick)))
    ys = np.linspace(thick, height - thick, max(2, round(height / thick)))
    return [(float(x), y) for x in xs for y in (thick / 2, height - thick / 2)] + [
        (x, float(y)) for y in ys for x in (thick / 2, width - thick / 2)]


def _colour(rng: random.Random) -> Colour:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _colours(rng: random.Random) -> tuple[Colour, Colour]:
    """A ground and an ink that stands out from it."""
    back = rng.choice(((0, 0, 0), (0, 0, 0), (255, 255, 255), _colour(rng)))
    return back, (255, 255, 255) if sum(back) < 380 else (15, 15, 15)


def _words(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.sample(WORDS, rng.randint(least, most))).capitalize()


def _address(rng: random.Random) -> str:
    return f"www.{rng.choice(WORDS)}-{rng.choice(WORDS)}.{rng.choice(('org', 'com', 'net', 'info'))}"
