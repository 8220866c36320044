"""The pages as they are sent: files that share some parts, and documents that are written here."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from delf.service.problems import not_found

PAGE = Path(__file__).parent / "page"
_PART = re.compile(r"<!-- (parts/[a-z]+\.html) -->\n")
_FRESH = {"Cache-Control": "no-cache"}  # browsers ask whether a page has changed, so that a new version is seen at once


def page_of(name: str) -> Response:
    """A page of those that are installed, with its parts. Raises `Problem` where it is not."""
    try:
        text = (PAGE / name).read_text(encoding="utf-8")
        whole = _PART.sub(lambda part: (PAGE / part[1]).read_text(encoding="utf-8"), text)
    except FileNotFoundError as error:
        raise not_found("this installation has no web page") from error
    return HTMLResponse(whole, headers=_FRESH)


def document(title: str, main: str) -> Response:
    """A page of text and links. title: in words. main: as HTML."""
    return HTMLResponse(f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>delf: {escape(title)}</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<script src="static/theme.js"></script>
<link rel="stylesheet" href="static/base.css">
<link rel="stylesheet" href="static/docs.css">
</head>
<body>
<header><a href=".">delf</a></header>
<main>
{main}
</main>
</body>
</html>
""", headers=_FRESH)


class _Static(StaticFiles):
    """The files of the page."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_FRESH)
        return response


def static_files() -> StaticFiles:
    """Those of the page."""
    return _Static(directory=PAGE, check_dir=False)
