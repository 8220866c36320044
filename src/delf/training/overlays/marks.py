"""What lies on a photo, which keeps its size: captions, watermarks, dates, signs."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFilter

from delf.training.overlays.drawing import WORDS, Placed, an_address, any_colour, ground_and_ink, laid_over, some_words


def caption_on_photo(photo: Image.Image, rng: random.Random) -> Placed:
    """Words over the photo, on a half-transparent band or with a shadow."""
    back, ink = ground_and_ink(rng)
    width, height = photo.size
    size = height * rng.uniform(0.04, 0.09)
    top = rng.choice((height - 2.2 * size, height - 1.6 * size, 0.6 * size))
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    if rng.random() < 0.7:
        draw.rectangle((0, top - 0.3 * size, width, top + 1.4 * size), fill=(*back, rng.randint(120, 230)))
    anchor, x = rng.choice((("la", 0.04), ("ma", 0.5), ("ra", 0.96)))
    text = some_words(rng, 3, 5)
    draw.text((width * x + 1, top + 1), text, fill=(*back, 255), font_size=size, anchor=anchor)
    draw.text((width * x, top), text, fill=(*ink, 255), font_size=size, anchor=anchor)
    return laid_over(photo, layer), 1.0, 0, 0


def watermark_tiled(photo: Image.Image, rng: random.Random) -> Placed:
    """One half-transparent word again and again, straight or aslant."""
    width, height = photo.size
    size = max(width, height) * rng.uniform(0.03, 0.07)
    text, side = rng.choice((some_words(rng, 1, 2), an_address(rng))), max(width, height) * 2
    tile = Image.new("RGBA", (side, side))
    draw, alpha = ImageDraw.Draw(tile), rng.randint(70, 150)
    ink = rng.choice(((255, 255, 255), (255, 255, 255), (40, 40, 40)))
    step, across = size * rng.uniform(2.5, 5), draw.textlength(text, font_size=size) * rng.uniform(1.15, 1.6)
    for row in range(int(side / step) + 1):
        for column in range(int(side / across) + 2):
            draw.text(((column - row % 2 / 2) * across, row * step), text, fill=(*ink, alpha), font_size=size)
    tile = tile.rotate(rng.choice((0, 20, 30, 45, -30)), Image.Resampling.BICUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    return laid_over(photo, tile.crop((left, top, left + width, top + height))), 1.0, 0, 0


def watermark_centre(photo: Image.Image, rng: random.Random) -> Placed:
    """A large half-transparent name, or sign and name, in the middle."""
    width, height = photo.size
    layer = Image.new("RGBA", photo.size)
    draw, text = ImageDraw.Draw(layer), some_words(rng, 1, 2).upper()
    size = width * rng.uniform(0.5, 0.85) / max(draw.textlength(text, font_size=100) / 100, 1)
    ink = (*rng.choice(((255, 255, 255), (255, 255, 255), (30, 30, 30))), rng.randint(90, 190))
    draw.text((width / 2, height / 2), text, fill=ink, font_size=size, anchor="mm")
    if rng.random() < 0.5:
        draw.text((width / 2, height / 2 + size * 0.8), an_address(rng), fill=ink, font_size=max(size * 0.35, 8),
                  anchor="mm")
    if rng.random() < 0.5:
        layer = layer.rotate(rng.choice((-30, 30, 45)), Image.Resampling.BICUBIC)
    return laid_over(photo, layer), 1.0, 0, 0


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
    return laid_over(laid_over(photo, glow), layer), 1.0, 0, 0


def watermark_anywhere(photo: Image.Image, rng: random.Random) -> Placed:
    """A name, or a line or two, neither in the middle nor at an edge, solid or half-transparent, straight or aslant.

    Its size is a share of one of the sides, or so many pixels, and it begins at a share of both sides: so it lies
    elsewhere, seen from every edge, on a picture of another shape.
    """
    width, height = photo.size
    of = rng.choice((height, height, width, min(width, height), 400))
    size = max(of * rng.uniform(0.05, 0.12), 9)
    across, down = rng.choice((rng.uniform(0.06, 0.3), rng.uniform(0.45, 0.6))), rng.choice(
        (rng.uniform(0.18, 0.4), rng.uniform(0.58, 0.75)))
    lines = [rng.choice((f"© {rng.choice(WORDS).upper()}", f"Photo by {some_words(rng, 1, 2).title()}",
                         some_words(rng, 1, 2).upper(), some_words(rng, 2, 2), an_address(rng)))]
    if rng.random() < 0.4:
        lines.append(rng.choice((an_address(rng), some_words(rng, 2, 3), f"{rng.randint(1990, 2024)}")))
    ink = (*rng.choice(((255, 255, 255), (255, 255, 255), (230, 230, 230), (20, 20, 20), any_colour(rng))),
           rng.choice((255, 255, rng.randint(90, 190))))
    layer, bold = Image.new("RGBA", photo.size), rng.choice((0, 0, size / 25))
    ImageDraw.Draw(layer).multiline_text((width * across, height * down), "\n".join(lines), fill=ink, font_size=size,
                                         stroke_width=bold, align=rng.choice(("left", "center")))
    if rng.random() < 0.3:
        layer = layer.rotate(rng.choice((-12, 10, 20)), Image.Resampling.BICUBIC,
                             center=(width * across, height * down))
    return laid_over(photo, layer), 1.0, 0, 0


def logo(photo: Image.Image, rng: random.Random) -> Placed:
    """A sign of shapes and a name in a corner, solid or half-transparent."""
    width, height = photo.size
    side = min(width, height) * rng.uniform(0.12, 0.25)
    left = rng.choice((side * 0.2, width - side * 1.2))
    top = rng.choice((side * 0.2, height - side * 1.2))
    return _with_sign(photo, rng, (left, top), side)


def logo_anywhere(photo: Image.Image, rng: random.Random) -> Placed:
    """The same, neither in the middle nor at an edge."""
    width, height = photo.size
    side = rng.choice((min(width, height), height, 400)) * rng.uniform(0.15, 0.25)
    across, down = rng.choice((rng.uniform(0.1, 0.25), rng.uniform(0.55, 0.7))), rng.choice(
        (rng.uniform(0.18, 0.3), rng.uniform(0.5, 0.6)))
    return _with_sign(photo, rng, (width * across, height * down), side)


def _with_sign(photo: Image.Image, rng: random.Random, corner: tuple[float, float], side: float) -> Placed:
    """A sign so large, whose left top corner lies there."""
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    left, top = corner
    alpha = rng.choice((255, 255, 160))
    for _ in range(rng.randint(3, 6)):
        x, y = left + side * rng.uniform(0, 0.5), top + side * rng.uniform(0, 0.5)
        box = (x, y, x + side * rng.uniform(0.2, 0.5), y + side * rng.uniform(0.2, 0.5))
        colour = (*any_colour(rng), alpha)
        rng.choice((draw.ellipse, draw.rectangle))(box, fill=colour)
    draw.text((left + side / 2, top + side), rng.choice(WORDS).upper(), fill=(255, 255, 255, alpha),
              font_size=side * 0.24, anchor="mb", stroke_width=1, stroke_fill=(0, 0, 0, alpha))
    return laid_over(photo, layer), 1.0, 0, 0


def news(photo: Image.Image, rng: random.Random) -> Placed:
    """A television picture: the station's sign in a corner, a headline below, and a line that runs."""
    width, height = photo.size
    layer = Image.new("RGBA", photo.size)
    draw, size, sign, second = ImageDraw.Draw(layer), height * rng.uniform(0.05, 0.07), any_colour(rng), any_colour(rng)
    x = rng.choice((0.03, 0.82)) * width
    draw.rounded_rectangle((x, height * 0.04, x + width * 0.15, height * 0.12), 4, fill=(*sign, 230))
    draw.text((x + width * 0.075, height * 0.08), rng.choice(WORDS).upper()[:6], fill="white", font_size=size,
              anchor="mm")
    draw.rectangle((width * 0.05, height * 0.76, width * 0.95, height * 0.88), fill=(*second, 230))
    draw.rectangle((width * 0.05, height * 0.76, width * 0.2, height * 0.88), fill=(*sign, 255))
    draw.text((width * 0.22, height * 0.79), some_words(rng, 3, 5), fill="white", font_size=size)
    draw.rectangle((0, height * 0.92, width, height), fill=(20, 20, 40, 255))
    draw.text((width * 0.02, height * 0.935), "  +  ".join(some_words(rng, 3, 5) for _ in range(3)), fill="white",
              font_size=size * 0.8)
    return laid_over(photo, layer), 1.0, 0, 0
