"""Words, colours and simple signs, drawn by the seed of an overlay in Pillow's own font."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Placed = tuple[Image.Image, float, float, float]  # the new picture; scale, left and top of the photo in it
WORDS = ("archive", "family", "photo", "city", "travel", "museum", "press", "north", "library", "images", "summer",
         "agency", "heritage", "old", "town", "collection", "stock", "view", "record", "journal", "gallery", "studio",
         "memory", "south", "grand", "tour", "royal", "society", "market", "river", "bridge", "union", "daily",
         "light", "garden", "national")
BUTTONS = ("Share", "Edit", "Delete", "Like", "Comment", "Send", "Save", "Home", "Search", "Profile", "Back", "More",
           "Info", "Download", "Next", "Album", "Map", "Tags", "Follow", "Reply", "File", "View", "Tools", "Help",
           "Inbox")


def laid_over(photo: Image.Image, layer: Image.Image) -> Image.Image:
    """A picture with a half-transparent layer on it."""
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def fitted(out: Image.Image, photo: Image.Image, box: tuple[int, int, int, int]) -> Placed:
    """The photo as large as it fits into a box of a picture, in its middle."""
    scale = min((box[2] - box[0]) / photo.width, (box[3] - box[1]) / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    left, top = (box[0] + box[2] - size[0]) // 2, (box[1] + box[3] - size[1]) // 2
    out.paste(photo.resize(size, Image.Resampling.LANCZOS), (left, top))
    return out, scale, left, top


def icons(draw: ImageDraw.ImageDraw, rng: random.Random, box: tuple[float, float, float, float], ink: Colour) -> None:
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


def buttons(draw: ImageDraw.ImageDraw, rng: random.Random, box: tuple[float, float, float, float], ink: Colour) -> None:
    """A row of words as buttons have."""
    left, top, right, bottom = box
    names = rng.sample(BUTTONS, rng.randint(3, 4))
    for place, name in enumerate(names):
        draw.text((left + (right - left) * (place + 0.5) / len(names), (top + bottom) / 2), name, fill=ink,
                  font_size=(bottom - top) * 0.35, anchor="mm")


def places_around(size: tuple[int, int], thick: int) -> list[tuple[float, float]]:
    """Places along the middle of a frame, at equal steps."""
    width, height = size
    xs = np.linspace(thick, width - thick, max(2, round(width / thick)))
    ys = np.linspace(thick, height - thick, max(2, round(height / thick)))
    return [(float(x), y) for x in xs for y in (thick / 2, height - thick / 2)] + [
        (x, float(y)) for y in ys for x in (thick / 2, width - thick / 2)]


def any_colour(rng: random.Random) -> Colour:
    """A colour."""
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def ground_and_ink(rng: random.Random) -> tuple[Colour, Colour]:
    """A ground and an ink that stands out from it."""
    back = rng.choice(((0, 0, 0), (0, 0, 0), (255, 255, 255), any_colour(rng)))
    return back, (255, 255, 255) if sum(back) < 380 else (15, 15, 15)


def some_words(rng: random.Random, least: int, most: int) -> str:
    """A few words, different ones, the first with a capital."""
    return " ".join(rng.sample(WORDS, rng.randint(least, most))).capitalize()


def an_address(rng: random.Random) -> str:
    """An address of a site."""
    return f"www.{rng.choice(WORDS)}-{rng.choice(WORDS)}.{rng.choice(('org', 'com', 'net', 'info'))}"
