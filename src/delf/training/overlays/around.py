"""What lies around a photo: bars, screens, windows, frames, the lid of a scanner."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from delf.training.overlays.drawing import (
    BUTTONS,
    WORDS,
    Placed,
    an_address,
    any_colour,
    buttons,
    fitted,
    ground_and_ink,
    icons,
    places_around,
    some_words,
)


def caption_bar(photo: Image.Image, rng: random.Random) -> Placed:
    """A strip with words below, above or beside the photo, black, white or coloured."""
    edge = rng.choice(("bottom", "bottom", "bottom", "top", "left", "right"))
    back, ink = ground_and_ink(rng)
    width, height = photo.size
    lying = edge in ("top", "bottom")
    thick = max(14, round((height if lying else width) * rng.uniform(0.05, 0.13)))
    strip = Image.new("RGB", (width if lying else height, thick), back)
    draw, size = ImageDraw.Draw(strip), thick * rng.uniform(0.35, 0.6)
    draw.text((thick * 0.4, (thick - size) / 2 - 1), some_words(rng, 2, 3), fill=ink, font_size=size)
    small = size * rng.uniform(0.6, 1.0)
    draw.text((strip.width - thick * 0.4, thick / 2), an_address(rng), fill=ink, font_size=small, anchor="rm")
    if not lying:
        strip = strip.transpose(Image.Transpose.ROTATE_90 if edge == "left" else Image.Transpose.ROTATE_270)
    left, top = (thick if edge == "left" else 0), (thick if edge == "top" else 0)
    out = Image.new("RGB", (width + (0 if lying else thick), height + (thick if lying else 0)), back)
    out.paste(photo, (left, top))
    out.paste(strip, (width if edge == "right" else 0, height if edge == "bottom" else 0))
    return out, 1.0, left, top


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
    icons(draw, rng, (0, height - below, width, height - below * 0.45), ink)
    buttons(draw, rng, (0, height - below * 0.45, width, height), ink)
    return fitted(out, photo, (0, above, width, height - below))


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
        draw.text((20 + number * 170, 14), some_words(rng, 2, 3)[:22], fill=ink, font_size=13)
    draw.rounded_rectangle((90, 42, width - 60, 68), 12, fill=page)
    draw.text((104, 47), f"https://{an_address(rng)}/{rng.choice(WORDS)}/{rng.randint(100, 9999)}", fill=ink,
              font_size=14)
    for number in range(3):
        draw.ellipse((12 + 24 * number, 46, 30 + 24 * number, 64), outline=ink, width=2)
    left = 0
    if rng.random() < 0.6:
        left = 170
        for number in range(rng.randint(6, 14)):
            draw.text((14, 92 + number * 30), some_words(rng, 1, 2), fill=ink, font_size=15)
    draw.text((left + 16, 84), some_words(rng, 3, 6).title(), fill=ink, font_size=22)
    return fitted(out, photo, (left + 16, 116, width - 16, height - rng.randint(10, 60)))


def frame(photo: Image.Image, rng: random.Random) -> Placed:
    """A decorated frame: lines, beads or lozenges all around."""
    width, height = photo.size
    thick = max(10, round(min(width, height) * rng.uniform(0.05, 0.12)))
    back, ink = ground_and_ink(rng)
    out = Image.new("RGB", (width + 2 * thick, height + 2 * thick), back)
    draw = ImageDraw.Draw(out)
    for share in rng.sample((0.1, 0.25, 0.75, 0.9), 2):
        inset = thick * share
        draw.rectangle((inset, inset, out.width - inset, out.height - inset), outline=ink, width=max(1, thick // 12))
    style, second, radius = rng.choice(("beads", "lozenges", "plain")), any_colour(rng), thick * 0.22
    for x, y in places_around(out.size, thick):
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
        draw.rectangle((x, out.height - thick * 0.8, x + thick * 0.9, out.height - thick * 0.15), fill=any_colour(rng))
    if rng.random() < 0.5:
        draw.text((out.width - thick, out.height - thick * 0.5), f"{some_words(rng, 1, 2)} {rng.randint(100, 9999)}",
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
    ImageDraw.Draw(out).text((out.width / 2, out.height - below / 2), some_words(rng, 2, 4), fill=rng.choice(
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


def postage(photo: Image.Image, rng: random.Random) -> Placed:
    """A stamp: a perforated edge, a value and a country."""
    width, height = photo.size
    thick = max(10, round(min(width, height) * rng.uniform(0.07, 0.12)))
    ground = rng.choice(((30, 30, 30), (120, 90, 60), (40, 70, 110)))
    out = Image.new("RGB", (width + 2 * thick, height + 2 * thick), (250, 248, 240))
    draw, step, radius = ImageDraw.Draw(out), thick * 0.6, thick * 0.2
    for x in np.arange(0, out.width + step, step).tolist():
        for y in (0, out.height):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ground)
    for y in np.arange(0, out.height + step, step).tolist():
        for x in (0, out.width):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ground)
    out.paste(photo, (thick, thick))
    name, ink = rng.choice(WORDS).upper(), rng.choice(((255, 255, 255), (120, 20, 20), (20, 20, 60)))
    draw.text((out.width - thick * 1.4, thick * 1.4), str(rng.randint(5, 95)), fill=ink, font_size=thick * 1.8,
              anchor="rt")
    draw.text((thick * 1.4, out.height - thick * 1.4), name, fill=ink, font_size=thick * 1.2, anchor="lb")
    return out, 1.0, thick, thick


def post(photo: Image.Image, rng: random.Random) -> Placed:
    """A post of a network: who, when and what above the photo, and buttons and numbers below."""
    width, height = photo.size
    size = width * rng.uniform(0.035, 0.05)
    above, below = round(size * rng.uniform(4.5, 7)), round(size * rng.uniform(3, 6))
    page, ink = rng.choice((((255, 255, 255), (30, 30, 30)), ((24, 25, 26), (228, 230, 235))))
    out = Image.new("RGB", (width, height + above + below), page)
    draw = ImageDraw.Draw(out)
    draw.ellipse((size * 0.5, size * 0.5, size * 3, size * 3), fill=any_colour(rng))
    draw.text((size * 1.75, size * 1.75), rng.choice(WORDS)[0].upper(), fill="white", font_size=size * 1.4, anchor="mm")
    draw.text((size * 3.5, size * 0.6), some_words(rng, 2, 2).title(), fill=ink, font_size=size)
    draw.text((size * 3.5, size * 1.9), f"{rng.randint(2, 23)} h", fill=(130, 130, 130), font_size=size * 0.8)
    draw.text((size * 0.5, size * 3.3), some_words(rng, 4, 6), fill=ink, font_size=size)
    out.paste(photo, (0, above))
    draw.text((size * 0.5, above + height + size * 0.3), f"{rng.randint(10, 900)} likes", fill=ink,
              font_size=size * 0.9)
    buttons(draw, rng, (0, above + height + below * 0.5, width, out.height), ink)
    return out, 1.0, 0, above
