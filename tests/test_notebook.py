"""What a notebook shows: HTML that stands on its own, whatever has become of the photos; and pictures."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf import Features, ImageMatch, SearchEngine, match
from delf.errors import DelfError, ImageError, OptionError
from delf.types import Picture, SearchResult


class Page(HTMLParser):
    """Pictures, words and the balance of tags of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words = ""
        self.feed(html)
        assert not self.open
        assert "<script" not in html and "http" not in html and "url(" not in html

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "

    def sizes(self) -> list[tuple[int, int]]:
        encoded = [str(image["src"]).split("base64,")[1] for image in self.images]
        return [Image.open(io.BytesIO(base64.b64decode(one))).size for one in encoded]


@pytest.fixture(scope="module")
def answer(collection: Any, extractor: Any, queries: dict[str, Any]) -> SearchResult:
    return SearchEngine(collection, extractor).search(queries["rocket"].path, top=3)


@pytest.fixture(scope="module")
def pair(extractor: Any, queries: dict[str, Any]) -> ImageMatch:
    return match(queries["rocket"].path, queries["rocket"].photo, extractor)


def test_an_answer_shows_query_and_results(answer: SearchResult) -> None:
    page = Page(answer._repr_html_())
    assert [str(image["alt"]).split(":")[0] for image in page.images] == ["query", "result 1", "result 2", "result 3"]
    assert "Match found" in page.words and "rocket.jpg" in page.words
    assert "same thing" in page.words and f"{answer.results[0].inliers} inliers" in page.words
    assert max(max(size) for size in page.sizes()) <= 240
    nothing = Page(replace(answer, match=False, results=answer.results[2:])._repr_html_())
    assert "No match in this collection" in nothing.words and "Nearest, but not a match" in nothing.words
    unknown = replace(answer, match=None, results=tuple(replace(one, probability=None) for one in answer.results))
    words = Page(unknown._repr_html_()).words
    assert "Ranked by similarity alone" in words and words.count("not looked at") == 3 and "no match" not in words
    assert Page(replace(answer, query="", results=())._repr_html_()).images == []


def test_a_result_shows_its_photo_and_plots_its_points(answer: SearchResult, queries: dict[str, Any]) -> None:
    best = answer.results[0]
    assert len(Page(best._repr_html_()).images) == 1
    picture = answer.plot()
    assert isinstance(picture, Picture) and picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, best.plot(queries["rocket"].path).pixels)
    assert picture.words == f"{best.inliers} matched points of query-rocket.png and {Path(best.image).name}"
    assert len(np.unique(picture.pixels.reshape(-1, 3), axis=0)) > 1000, "two photos are on it"
    with pytest.raises(OptionError, match=r"no result of rank 9: the search has 3 results"):
        answer.plot(9)
    with pytest.raises(OptionError, match="the query was no file"):
        replace(answer, query="").plot()


def test_in_words_they_fit_a_line(answer: SearchResult, pair: ImageMatch, query_features: dict[str, Features]) -> None:
    assert repr(answer).endswith("query-rocket.png', delf-asmk: match, 3 results)")
    assert repr(answer.results[0]).startswith("Result(1, '")
    assert repr(pair) == f"ImageMatch({pair.inliers} inliers of {pair.tentative}, probability {pair.probability:.3f})"
    assert repr(query_features["rocket"]).startswith("Features(") and "128 dimensions" in repr(query_features["rocket"])
    assert all(len(repr(one)) < 300 for one in (answer, *answer.results, pair, answer.plot()))


def test_a_box_is_outlined(collection: Any, extractor: Any, queries: dict[str, Any]) -> None:
    box = (60.0, 20.0, 240.0, 200.0)
    found = SearchEngine(collection, extractor).search(queries["rocket"].path, box=box, top=1)
    assert found.box == box
    whole = replace(found, box=None).plot()
    assert (found.plot().pixels != whole.pixels).any()


def test_a_match_of_files_shows_itself(pair: ImageMatch, queries: dict[str, Any], tmp_path: Path) -> None:
    assert pair.images == (str(queries["rocket"].path), str(queries["rocket"].photo))
    [size] = Page(pair._repr_html_()).sizes()
    assert size == pair.plot().pixels.shape[1::-1]
    pair.plot().save(tmp_path / "match.png")
    with Image.open(tmp_path / "match.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), pair.plot().pixels)
    with pytest.raises(DelfError, match="what kind of picture"):
        pair.plot().save(tmp_path / "match.txt")


def test_a_match_of_arrays_is_told_and_plots_what_it_is_given(pair: ImageMatch, queries: dict[str, Any]) -> None:
    bare = replace(pair, images=None)
    page = Page(bare._repr_html_())
    assert not page.images and f"{pair.inliers} inliers of {pair.tentative} tentative matches" in page.words
    with pytest.raises(OptionError, match="give both"):
        bare.plot()
    photo = np.asarray(Image.open(queries["rocket"].photo))
    assert bare.plot(photo, photo).words == f"{pair.inliers} matched points of query and result"


def test_features_show_where_they_are(query_features: dict[str, Features], queries: dict[str, Any]) -> None:
    features = query_features["rocket"]
    html = features._repr_html_()
    page = Page(html.replace("/>", "></circle>"))
    assert f"{len(features)} features of 128 dimensions" in page.words
    assert html.count("<circle") == len(features)
    picture = features.plot(queries["rocket"].path)
    assert picture.pixels.shape[:2] == features.image_size[::-1]
    assert "0 features" in Page(features.select(slice(0))._repr_html_()).words


def test_photos_that_are_gone_leave_words(answer: SearchResult, pair: ImageMatch, tmp_path: Path) -> None:
    lost = str(tmp_path / "lost.jpg")
    gone = replace(answer, query=lost, results=tuple(
        replace(result, image=lost, file=Path(lost)) for result in answer.results))
    assert Page(gone._repr_html_()).words.count("This photo cannot be shown.") == 4
    assert "inliers" in Page(replace(pair, images=(lost, lost))._repr_html_()).words
    with pytest.raises(ImageError, match=r"lost\.jpg"):
        gone.plot()


def test_names_are_escaped(answer: SearchResult) -> None:
    name = '<script>alert(1)</script>".jpg'
    result = replace(answer.results[0], image=name)
    page = Page(replace(answer, query=name, method=name, results=(result,))._repr_html_())
    assert "alert(1)" in page.words


def test_types_load_nothing_to_draw_with_until_something_is_shown() -> None:
    code = ("import sys, numpy as np, delf.types as t\n"
            "loaded = {'cv2', 'PIL', 'delf.notebook', 'delf.report'} & set(sys.modules)\n"
            "assert not loaded, loaded\n"
            "none = np.zeros((0, 2), np.float32)\n"
            "assert '0 features' in t.Features(none, none[:, 0], none[:, 0], none, (4, 3))._repr_html_()\n"
            "assert 'delf.notebook' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
