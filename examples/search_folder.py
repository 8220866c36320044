"""Index a folder of photos and search it with one photo.

    python examples/search_folder.py PHOTOS QUERY [REPORT.html]

Prints the ranking, and draws the matched points into the page REPORT.html. The collection is kept in PHOTOS.delf beside
the folder, so that a second search is quick, and new photos are added to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from delf import Collection, Delf, DelfError, SearchEngine, build_index, read_image
from delf.images import display_path
from delf.report.html import ReportEntry, write_report


def search_folder(photos: Path, query: Path, page: Path) -> None:
    """Print which photos of a folder show the same thing as `query`, and write `page`."""
    extractor = Delf.load()
    with Collection.open_or_create(f"{photos.resolve()}.delf", extractor) as collection:
        report = collection.add([photos])
        print(f"{report.added} added, {report.unchanged} unchanged")
        print(*report.skipped, sep="\n", end="\n" if report.skipped else "")
        build_index(collection)
        answer = SearchEngine(collection, extractor).search(query, top=5)
    print("found" if answer.match else "no match; the nearest are")
    for result in answer.results:
        print(f"{result.rank}. {result.probability:4.0%}  {result.inliers:4} inliers  {display_path(result.image)}")
    write_report(page, [ReportEntry(answer, read_image(query), None, read_image)], title=f"Search in {photos.name}")
    print(f"The matched points are drawn in {page}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        search_folder(*map(Path, [*sys.argv[1:], "report.html"][:3]))
    except DelfError as error:
        sys.exit(str(error))
