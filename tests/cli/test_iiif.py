"""From the address of a manifest to a link, by commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from iiif_archive import serving

OPTIONS = ["--model", "delf-r18-int8", "--max-features", "200", "--set", "iiif.delay=0"]


def test_from_an_address_to_a_link(delf: Any, photos: Path, queries: Any, tmp_path: Path) -> None:
    target, query, page = tmp_path / "a.delf", queries["coffee"].path, tmp_path / "p.html"
    with serving() as archive:
        bodies = [archive.picture(number) for number in (1, 2)]
        archive.put("/image/2/full/1600,/0/default.jpg", (photos / "coffee.jpg").read_bytes(), "image/jpeg")
        url = archive.manifest("/m", bodies)
        assert "2 photos added" in delf("index", url, "-o", target, *OPTIONS).ok()
        assert delf("index", url, "-o", target, *OPTIONS).ok().startswith(f"{target}: 0 photos added, 2 unchanged")
        mixed = delf("index", archive.url + "/none", photos / "cat.jpg", "-o", target, *OPTIONS)
        assert "1 photo added" in mixed.ok() and "404" in mixed.skipped()[0]
        delf("index", "https://user:pass@localhost/m", "-o", target, *OPTIONS).failed("no address")
    out = delf("search", target, query, "--top", "1", "--html", page).ok()
    assert f"at {url}/canvas/1\n" in out and f"at {url}\n" in out and "A book, p. 1" in out
    assert f'<a href="{url}/canvas/1" rel="noopener noreferrer">canvas</a>' in page.read_text()
    assert "This photo cannot be shown" not in page.read_text()
    [result, *_] = delf("search", target, query, "--json", "--where", f"iiif.manifest = '{url}'").object()["results"]
    assert result["keys"] == [f"{url}#{url}/canvas/1"] and result["metadata"]["iiif"]["canvas"] == f"{url}/canvas/1"


@pytest.mark.parametrize("setting", ["iiif.speed=2", "iiif.delay=-1", "video.most=0"])
def test_options_that_make_no_sense(delf: Any, photos: Path, tmp_path: Path, setting: str) -> None:
    delf("index", photos, "-o", tmp_path / "a.delf", "--set", setting).failed(code=2)
    assert not (tmp_path / "a.delf").exists()
