"""The evidence of one pair of photos as SVG in a page: both pictures, the outline, and lines that join their points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.report.evidence import Outlines, counted, drawn_lines, line_opacity, order_colours
from delf.report.layout import Layout, Panel, side_by_side, stacked
from delf.report.page import lines, text
from delf.types import Box, ImageMatch, Result

Match = ImageMatch | Result


@dataclass(frozen=True)
class Photo:
    """A photo of a page. id: of the `<image>` that holds it. size: of the original. name: as it is shown."""

    id: str
    size: tuple[int, int]
    name: str


def embedded(photo: Photo, uri: str) -> str:
    """A picture that is in the page once, and shown where drawings refer to it."""
    return (f'<svg class="store" aria-hidden="true"><defs><image id="{photo.id}" width="{photo.size[0]}" '
            f'height="{photo.size[1]}" preserveAspectRatio="none" href="{uri}"/></defs></svg>')


def match_figure(query: Photo, database: Photo, match: Match, *, words: str = "the query", box: Box | None = None,
                 outlined: bool = True, most: int = 150, longest: int = 800) -> str:
    """Two photos with lines between their matched points: side by side, and stacked for narrow screens.

    The pictures are in the page already (`embedded`); each of the two drawings refers to them.

    Args:
        words: what the first photo is called. box: the part of it that was searched for. outlined: whether an outline
            says where the first is on the second; there is none where they do not match. most: lines that are drawn.
            longest: side of a picture.
    """
    rows = drawn_lines(match.inlier_points, query.size, database.size, most)
    outlines = Outlines.of(match.transform if outlined else None, query.size, database.size, box)
    label = f"{counted(len(rows), 'line')} between matched points of {words} and of {text(database.name)}"
    limit = (2 * longest, 2 * longest)
    layouts = {"wide": side_by_side(query.size, database.size, limit),
               "tall": stacked(query.size, database.size, limit)}
    told = f", {len(rows)} of them drawn" if len(rows) < match.inliers else ""
    said = outlines.words.replace("the query", words)
    return lines(
        '<figure class="evidence">',
        *(lines(
            f'<svg class="{kind}" viewBox="0 0 {layout.width} {layout.height}" role="img" aria-label="{label}">',
            placed(query.id, layout.query),
            placed(database.id, layout.database),
            *(polygon(panel.place(outline))
              for panel, outline in zip((layout.query, layout.database), (outlines.query, outlines.database),
                                        strict=True)
              if outline is not None),
            _match_lines(layout, match, rows),
            "</svg>",
        ) for kind, layout in layouts.items()),
        f"<figcaption>{counted(match.inliers, 'inlier')}{told}, gold for the most alike."
        f"{f' The white outline is {said}.' if said else ''} "
        '<label><input type="checkbox"> hide the lines</label></figcaption>',
        "</figure>",
    )


def _match_lines(layout: Layout, match: Match, rows: NDArray[np.int64]) -> str:
    """A group per inlier pair: its line and its two points; the most similar comes last and so lies on top."""
    points = np.asarray(match.inlier_points, np.float64).reshape(-1, 4)[rows]
    colours = order_colours(rows, len(match.inlier_points))
    groups = [
        f'<g color="#{red:02x}{green:02x}{blue:02x}">'
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
        f'<circle cx="{x0:.1f}" cy="{y0:.1f}" r="4"/><circle cx="{x1:.1f}" cy="{y1:.1f}" r="4"/></g>'
        for (x0, y0), (x1, y1), (red, green, blue) in zip(
            layout.query.place(points[:, :2]), layout.database.place(points[:, 2:]), colours, strict=True)
    ]
    return lines(f'<g class="lines" style="--opacity:{line_opacity(len(rows)):.2f}">', *groups[::-1], "</g>")


def placed(image_id: str, panel: Panel) -> str:
    """A picture that is in the page already, moved and scaled to its panel."""
    width, height = panel.image_size
    return (f'<use href="#{image_id}" transform="translate({panel.x} {panel.y}) '
            f'scale({panel.width / width:.6g} {panel.height / height:.6g})"/>')


def polygon(points: NDArray[np.float64]) -> str:
    """An outline that shows on light and dark ground."""
    listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon class="shade" points="{listed}"/><polygon class="outline" points="{listed}"/>'
