"""`delf codebook`: learn visual words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, report_skipped
from delf.cli.options import (
    MODEL,
    Device,
    Dimensions,
    Exclude,
    Json,
    MaxFeatures,
    Model,
    Own,
    Quiet,
    Runtime,
    Settings,
    Strict,
    Threads,
    load_any,
    only_extraction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delf.extractors import Extractor
    from delf.types import FloatArray

PER_WORD = 64  # descriptors of the sample for each word, unless said otherwise


def codebook(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Learn from these files and folders of "
                                                                        "photos, or from one collection.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write the visual words to this file. "
                                                                                "If it lies beside a model file as "
                                                                                "NAME.words, the model uses it "
                                                                                "without being told.")],
    words: Annotated[int, typer.Option(min=1, help="Learn this many words; fewer are learnt if the photos "
                                                   "are too few.")] = 16384,
    photos_limit: Annotated[int | None, typer.Option(min=1, help="Use only this many of the photos, chosen "
                                                                 "at random.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Learn from this many descriptors; by default from 64 for "
                                                           "each word.")] = None,
    exclude: Exclude = None,
    iterations: Annotated[int, typer.Option(min=1, help="Run this many iterations of k-means.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Draw random numbers from this seed; the same seed makes the same "
                                                  "words.")] = 0,
    model: Model = MODEL, extractor: Own = None, settings: Settings = None,
    dimensions: Dimensions = None, max_features: MaxFeatures = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Learn the visual words that ASMK and Hamming embedding compare images by.

    Learn them from photos that you will not search: on the photos that taught the words, results look better than
    they would otherwise.

    Example: [bold]delf codebook training-photos/ -o places.words --words 16384[/bold]
    """
    from delf.collection import Collection
    from delf.errors import OptionError
    from delf.files import replacing
    from delf.images import display_path, find_images
    from delf.index import Codebook, CodebookOptions
    from delf.indexing import training_sample

    options, size = CodebookOptions(words, iterations, seed), sample or PER_WORD * words
    collections = [path for path in photos if Collection.exists(path)]
    if collections and len(photos) > 1:
        raise OptionError(f"words are learnt from one collection, or from photos: leave out "
                          f"{display_path(collections[0])}, or all the others")
    skipped: list[str] = []
    with replacing(output) as temporary:  # says at once where it cannot be written
        if collections:
            with Collection.open(collections[0]) as opened:
                descriptors, fingerprint = training_sample(opened, size), opened.about["model"]["fingerprint"]
        else:
            own = load_any(extractor, model, runtime, device, threads, quiet or json,
                           **only_extraction(settings, dimensions=dimensions, max_features=max_features))
            paths = list(find_images(photos, exclude=exclude or (), on_error=lambda error: skipped.append(str(error))))
            descriptors = _extracted(own, paths, photos_limit, size, seed, skipped, quiet or json)
            fingerprint = own.identity["model"]["fingerprint"]
        learnt = Codebook.train(descriptors, options, model=fingerprint)
        learnt.save(temporary)
    if json:
        print_json({"codebook": str(output), "words": len(learnt), "dimensions": learnt.dimensions,
                    "descriptors": len(descriptors), "fingerprint": learnt.fingerprint, "skipped": skipped})
    else:
        print(f"{display_path(output)}: {counted(len(learnt), 'word')} of {learnt.dimensions} dimensions, learnt from "
              f"{counted(len(descriptors), 'descriptor')}; fingerprint {learnt.fingerprint[:16]}")
    report_skipped(skipped, strict)


def _extracted(extractor: Extractor, paths: list[Path], limit: int | None, size: int, seed: int, skipped: list[str],
               quiet: bool) -> FloatArray:
    """About `size` descriptors, as many of each photo."""
    import numpy as np

    from delf.images import load_ahead
    from delf.retrieval.words import sample_of

    def told(error: Exception) -> None:
        skipped.append(str(error))

    kept = np.sort(np.random.default_rng(seed).permutation(len(paths))[:limit])
    sources = [(None, paths[number]) for number in kept]

    def descriptors() -> Iterator[FloatArray]:
        loaded = load_ahead(sources, threads=extractor.threads, on_error=told, shrink_to=extractor.longest_side)
        with progress("Extracting", "photos", quiet) as update:
            found = extractor.extract_many((image.pixels, image.size) for _, image in loaded)
            for done, features in enumerate(found, start=1):
                update(done + len(skipped), len(sources))
                yield features.descriptors

    return sample_of(descriptors(), -(-size // max(1, len(sources))), seed)
