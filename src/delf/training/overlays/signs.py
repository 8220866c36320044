"""Signs of many drawings: badges, shields, monograms, codes, names beside a sign, stickers, pictures in the picture.

They lie anywhere on a photo, as stickers and stamps do, and not only where programs put them.
"""

from __future__ import annotations

import math
import random
import zlib

from PIL import Image, ImageChops, ImageDraw

from delf.training.overlays.drawing import WORDS, Placed, an_address, any_colour, ground_and_ink, laid_over, some_words

HIGH = 400  # pixels of a drawing, which is then made as small as it is shown


def sign(photo: Image.Image, rng: random.Random) -> Placed:
    """A sign of 0.1 to 0.3 of the picture's height, solid or half-transparent, straight or a little aslant.

    Where it lies is a share of what is left of both sides, or a distance from a corner, or, as a person places it, any
    place of each photo, and there a little larger or smaller.
    """
    drawing = rng.choice(DRAWINGS)(rng)
    if rng.random() < 0.25:
        drawing = drawing.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    opacity, of = rng.choice((1.0, 1.0, 0.8, 0.55)), rng.choice((photo.height, photo.height, min(photo.size), 400))
    high, way = of * rng.uniform(0.1, 0.3), rng.choice(("share", "share", "corner", "free", "free"))
    shares, corner = (rng.random(), rng.random()), (rng.random() < 0.5, rng.random() < 0.5)
    if way == "free":
        own = random.Random(f"{rng.random()} {zlib.crc32(photo.tobytes())}")
        shares, high = (own.random(), own.random()), high * own.choice((1.0, own.uniform(0.7, 1.4)))
    shrink = min(high / drawing.height, 0.8 * photo.width / drawing.width, 0.8 * photo.height / drawing.height)
    drawing = drawing.resize((max(1, round(drawing.width * shrink)), max(1, round(drawing.height * shrink))),
                             Image.Resampling.LANCZOS)
    room, margin = (photo.width - drawing.width, photo.height - drawing.height), high * 0.3
    place = [round(min(share * side, max(side - margin, 0)) if way == "share" else share * side)
             for share, side in zip(shares, room, strict=True)]
    if way == "corner":
        place = [round(max(side - margin, 0) if far else min(margin, side))
                 for far, side in zip(corner, room, strict=True)]
    drawing.putalpha(drawing.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    layer = Image.new("RGBA", photo.size)
    layer.paste(drawing, (place[0], place[1]))
    return laid_over(photo, layer), 1.0, 0, 0


def _blank(across: float = 1.0) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A transparent drawing so many times as wide as high."""
    image = Image.new("RGBA", (round(HIGH * across), HIGH))
    return image, ImageDraw.Draw(image)


def _star(draw: ImageDraw.ImageDraw, middle: tuple[float, float], radius: float, points: int, inner: float,
          fill: tuple[int, ...]) -> None:
    """A star of so many points."""
    corners = [(middle[0] + radius * (inner if n % 2 else 1) * math.sin(n * math.pi / points),
                middle[1] - radius * (inner if n % 2 else 1) * math.cos(n * math.pi / points))
               for n in range(2 * points)]
    draw.polygon(corners, fill=fill)


def _badge(rng: random.Random) -> Image.Image:
    """Rings, a star, a word and a year."""
    image, draw = _blank()
    (back, ink), other = ground_and_ink(rng), any_colour(rng)
    draw.ellipse((0, 0, HIGH, HIGH), fill=back)
    draw.ellipse((20, 20, HIGH - 20, HIGH - 20), outline=ink, width=rng.randint(4, 16))
    _star(draw, (200, 120), rng.uniform(40, 80), rng.randint(4, 7), rng.uniform(0.35, 0.7), other)
    draw.text((200, 240), rng.choice(WORDS).upper(), fill=ink, font_size=rng.uniform(44, 64), anchor="mm")
    draw.text((200, 310), str(rng.randint(1880, 2024)), fill=other, font_size=50, anchor="mm")
    return image


def _shield(rng: random.Random) -> Image.Image:
    """A coat of arms: bands or fields, and a letter."""
    image, draw = _blank(0.85)
    outline = ((10, 10), (330, 10), (330, 200), (290, 300), (170, 390), (50, 300), (10, 200))
    fields = Image.new("RGBA", image.size, any_colour(rng))
    drawn, steps = ImageDraw.Draw(fields), rng.randint(2, 6)
    for step in range(0, steps, 2):
        low, high = 400 * step / steps, 400 * (step + 1) / steps
        drawn.rectangle((low, 0, high, HIGH) if rng.random() < 0.5 else (0, low, HIGH, high), fill=any_colour(rng))
    drawn.text((170, 170), rng.choice(WORDS)[0].upper(), fill=any_colour(rng), font_size=rng.uniform(150, 260),
               anchor="mm")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    image.paste(fields, (0, 0), mask)
    draw.line((*outline, outline[0]), fill=(20, 20, 20), width=12)
    return image


def _monogram(rng: random.Random) -> Image.Image:
    """Two or three letters in a box."""
    image, draw = _blank(rng.uniform(0.9, 1.4))
    back, ink = ground_and_ink(rng)
    box = (5, 5, image.width - 5, HIGH - 5)
    draw.rounded_rectangle(box, rng.choice((0, 40, 150)), fill=rng.choice((back, any_colour(rng))), outline=ink,
                           width=rng.randint(6, 24))
    letters = "".join(rng.sample("ABCDEGHKMNPRSTVWXZ", rng.randint(2, 3)))
    draw.text((image.width / 2, 200), letters, fill=ink, font_size=rng.uniform(150, 220), anchor="mm")
    return image


def _code(rng: random.Random) -> Image.Image:
    """A code of squares, as telephones read them."""
    number = rng.randint(11, 21)
    cells = Image.new("L", (number + 2, number + 2), 255)
    for x in range(1, number + 1):
        for y in range(1, number + 1):
            cells.putpixel((x, y), rng.choice((0, 255)))
    drawn = ImageDraw.Draw(cells)
    for x, y in ((1, 1), (number - 4, 1), (1, number - 4)):
        drawn.rectangle((x, y, x + 4, y + 4), fill=255, outline=0)
        drawn.rectangle((x + 2, y + 2, x + 2, y + 2), fill=0)
    return cells.resize((HIGH, HIGH), Image.Resampling.NEAREST).convert("RGBA")


def _name(rng: random.Random) -> Image.Image:
    """A small sign, and a name beside it."""
    image, draw = _blank(rng.uniform(2.0, 3.2))
    back, ink = ground_and_ink(rng)
    if rng.random() < 0.6:
        draw.rounded_rectangle((0, 0, image.width, HIGH), 50, fill=back)
    colours = any_colour(rng), any_colour(rng)
    rng.choice((draw.ellipse, draw.rectangle))((30, 80, 270, 320), fill=colours[0])
    _star(draw, (150, 200), 110, rng.randint(3, 6), rng.uniform(0.3, 0.6), colours[1])
    word = rng.choice(WORDS).title()
    size = min(170, 0.9 * (image.width - 320) / max(draw.textlength(word, font_size=100) / 100, 1))
    draw.text((310, 170), word, fill=ink, font_size=size, anchor="lm", stroke_width=rng.choice((0, 4)))
    draw.text((310, 310), an_address(rng), fill=ink, font_size=(image.width - 320) / 13, anchor="lm")
    return image


def _lines(rng: random.Random) -> Image.Image:
    """Three lines of words between two rules, without a ground."""
    image, draw = _blank(rng.uniform(1.2, 2.2))
    ink = rng.choice(((255, 255, 255), (255, 255, 255), (20, 20, 20), any_colour(rng)))
    for row, high in enumerate((90, 140, 70)):
        text = some_words(rng, 1, 2).upper()
        fits = 0.92 * image.width / max(draw.textlength(text, font_size=100) / 100, 1)
        draw.text((image.width / 2, (80, 210, 335)[row]), text, fill=ink, font_size=min(high, fits), anchor="mm")
    for y in (14, HIGH - 14):
        draw.line((0, y, image.width, y), fill=ink, width=10)
    return image


def _face(rng: random.Random) -> Image.Image:
    """A sticker of a face with a hat."""
    image, draw = _blank()
    skin, eyes = rng.choice(((255, 205, 60), (250, 250, 250), any_colour(rng))), rng.uniform(18, 40)
    draw.ellipse((30, 60, 370, HIGH), fill=skin, outline=(30, 30, 30), width=10)
    for x in (rng.uniform(120, 150), rng.uniform(250, 280)):
        draw.ellipse((x - eyes, 190 - eyes, x + eyes, 190 + eyes), fill=(25, 25, 25))
        draw.ellipse((x - 8, 180, x + 8, 196), fill=(255, 255, 255))
    draw.arc((120, 200, 280, 340), rng.uniform(0, 30), rng.uniform(150, 180), fill=(160, 30, 40), width=18)
    draw.polygon(((60, 120), (340, 120), (rng.uniform(120, 280), 0)), fill=any_colour(rng))
    return image


def _burst(rng: random.Random) -> Image.Image:
    """A price on a star of many points."""
    image, draw = _blank()
    _star(draw, (200, 200), 200, rng.randint(9, 20), rng.uniform(0.75, 0.9), any_colour(rng))
    draw.ellipse((70, 70, 330, 330), outline=(255, 255, 255), width=8)
    draw.text((200, 160), f"{rng.randint(5, 90)} %", fill=(255, 255, 255), font_size=110, anchor="mm", stroke_width=3)
    draw.text((200, 260), rng.choice(("SALE", "NEW", "OFF", "TODAY")), fill=(255, 240, 90), font_size=70, anchor="mm")
    return image


def _target(rng: random.Random) -> Image.Image:
    """Coloured rings and sectors."""
    image, draw = _blank()
    for radius in range(200, 20, -rng.randint(25, 60)):
        start = rng.uniform(0, 360)
        box = (200 - radius, 200 - radius, 200 + radius, 200 + radius)
        draw.ellipse(box, fill=any_colour(rng))
        draw.pieslice(box, start, start + rng.uniform(40, 180), fill=any_colour(rng))
    return image


def _inset(rng: random.Random) -> Image.Image:
    """A small picture of coloured clouds and shapes in a frame."""
    image, draw = _blank(rng.uniform(0.8, 1.6))
    clouds = [Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side)).resize(
        image.size, Image.Resampling.BICUBIC) for side in (5, 17, 60)]
    image.paste(ImageChops.blend(ImageChops.blend(clouds[0], clouds[1], 0.4), clouds[2], 0.3), (0, 0))
    for _ in range(rng.randint(3, 7)):
        x, y, size = rng.uniform(0, image.width), rng.uniform(0, HIGH), rng.uniform(40, 140)
        rng.choice((draw.ellipse, draw.rectangle))((x, y, x + size, y + size), fill=any_colour(rng))
    draw.rectangle((0, 0, image.width - 1, HIGH - 1), outline=rng.choice(((255, 255, 255), (0, 0, 0))), width=14)
    return image


DRAWINGS = (_badge, _shield, _monogram, _code, _name, _lines, _face, _burst, _target, _inset)
