"""`delf dataset build`, `review`, `clean` and `split`: from photos of one's own to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delf.cli.console import counted, print_json, progress, report_passed_over, report_skipped, say
from delf.cli.indexing import extractor_as_before
from delf.cli.options import (
    MODEL,
    Device,
    Exclude,
    Json,
    Own,
    Quiet,
    Runtime,
    Settings,
    Strict,
    Threads,
    extraction_options,
)

if TYPE_CHECKING:
    from delf.archive import Built

SHOWN = 10

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Use the data set in this folder, which 'delf dataset "
                                                               "build' has made.")]


def build(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Make this data set, or add to it. "
                                                                                  "Groups keep their numbers, and the "
                                                                                  "decisions in decisions.csv are "
                                                                                  "followed.")],
    photos: Annotated[list[Path] | None, typer.Argument(metavar="PHOTOS", help="Read these files and folders of "
                                                                               "photos. If you name none, the photos "
                                                                               "of the data set are grouped again, "
                                                                               "for example after a change of "
                                                                               "decisions.csv.")] = None,
    positions: Annotated[Path | None, typer.Option(metavar="CSV", help="Read where photos were taken from this CSV "
                                                                       "file: file,latitude,longitude, in degrees. "
                                                                       "EXIF data are used for photos that it does "
                                                                       "not list.")] = None,
    collection: Annotated[Path | None, typer.Option(help="Use or make this collection instead of one in FOLDER; all "
                                                         "its photos belong to the data set.")] = None,
    exclude: Exclude = None,
    prune: Annotated[bool, typer.Option("--prune", help="Forget photos below PHOTOS whose files are gone.")] = False,
    model: Annotated[str | None, typer.Option(help="Use this model: the name of a packaged one, a .safetensors or "
                                              ".onnx file, or a folder that holds one. By default the collection's own "
                                              f"is used, and {MODEL} for a new one.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Find which of your photos show the same thing, and make a data set of groups, representatives and doubtful pairs.

    FOLDER/groups.csv has a line for each photo with its file and its group, which is empty for a photo without one.
    photos.csv and landmarks.csv say more, and bridges.csv lists pairs that nearly joined two groups. Write corrections
    into decisions.csv (merge, split, rename, remove, landmark, no-landmark), and run the command again. If you run it
    with new photos, they join the groups.

    Positions are not needed. You may interrupt the command at any time; the same command continues.

    Example: [bold]delf dataset build ~/Pictures -o landmarks/[/bold]

    Example: [bold]delf dataset build -o landmarks/ --set joining.enough=3 --set places.radius_km=0.5[/bold]
    """
    from delf.archive import BuildOptions, build_dataset, collection_of
    from delf.settings import with_settings

    silent = quiet or json
    extraction, others = extraction_options(settings)
    options = with_settings(BuildOptions(), others)
    place = collection_of(output, collection)
    own = extractor_as_before(place, extractor, model, runtime, device, threads, silent, extraction)
    with progress("Extracting", "photos", silent) as extracting, \
            progress("Preparing", "segments", silent) as preparing, \
            progress("Matching", "photos", silent) as matching:
        built = build_dataset(photos or [], output, own, collection=collection, positions=positions, options=options,
                              exclude=exclude or (), prune=prune, extracting=extracting, preparing=preparing,
                              matching=matching)
    if built.interrupted:
        say("What has been extracted and matched is kept; run the same command to continue.")
        raise typer.Exit(130)
    for remark in built.remarks:
        say(f"Note: {remark}", quiet)
    print_json(built.to_json()) if json else _print_built(built)
    report_passed_over(built.added.passed_over, quiet)
    report_skipped(built.added.skipped, strict)


def _print_built(built: Built) -> None:
    from delf.images import display_path

    roles = built.to_json()["roles"]
    grouped = sum(row.group is not None for row in built.photos)
    copies = roles.get("copy", 0)
    print(f"{display_path(built.folder)}: {counted(len(built.landmarks), 'group')} of {counted(grouped, 'photo')}, of "
          f"these {counted(roles.get('duplicate', 0), 'near-duplicate')} and "
          f"{copies:,} exact {'copy' if copies == 1 else 'copies'}; {len(built.photos) - grouped:,} in no group")
    if placed := [row for row in built.photos if row.latitude is not None]:
        print(f"{len(placed):,} of {counted(len(built.photos), 'photo')} have a position, in "
              f"{counted(len({row.place for row in placed} - {None}), 'place')} where several were taken")
    if built.landmarks:
        print("photos  group  representative")
    for row in sorted(built.landmarks, key=lambda row: (-row.photos, row.group))[:SHOWN]:
        print(f"{row.photos:>6}  {display_path(row.label):<5}  {display_path(row.representative)}")
    if len(built.landmarks) > SHOWN:
        print(f"and {counted(len(built.landmarks) - SHOWN, 'smaller group')}")
    if built.bridges:
        print(f"{counted(len(built.bridges), 'pair')} would join two groups and did not: look at bridges.csv, and say "
              "what you know in decisions.csv")


def review(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Serve the page at this port; 0 takes any free "
                                                             "port.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser, or only print "
                                                                         "its address.")] = True,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    extractor: Own = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Look at the groups of a data set in the browser, and merge, split, rename or remove them, or mark landmarks.

    Pairs that nearly joined two groups are shown with their evidence. Each decision is a line of FOLDER/decisions.csv.
    You can take it back on the page, or edit the file by hand; 'delf dataset build -o FOLDER' follows it. The page can
    be seen on this computer only, and only with the address that the command prints can anyone decide. Ctrl-C ends it.

    Example: [bold]delf dataset review landmarks/[/bold]

    Example: [bold]delf dataset review landmarks/ --port 8080 --no-browser[/bold]
    """
    import secrets

    from delf.archive import Review, collection_of
    from delf.cli.opening import open_browser
    from delf.images import display_path
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.reviewing import create_review_app
    from delf.service.server import run

    host, groups = "127.0.0.1", len(Review.open(folder).landmarks)
    place = collection_of(folder)
    own = extractor_as_before(place, extractor, model, runtime, device, threads, quiet, {})
    options = ServiceOptions(token=secrets.token_urlsafe(24), hosts=(host,), watch_seconds=1.0)
    app = create_review_app(folder, Library(place, own, methods=(), told=say), options)

    def started(address: str) -> None:
        page = f"{address}#token={options.token}"
        print(f"{display_path(folder)}: {counted(groups, 'group')} at {page}", flush=True)
        say("Press Ctrl-C to end this command.", quiet)
        if browser:
            open_browser(page)

    run(app, options, host, port, started=started)


def split(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Write the benchmark into this "
                                                                                  "folder, which is new or was split "
                                                                                  "before.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the photos of the index and the queries into images/, "
                                                      "instead of making links to them.")] = False,
    title: Annotated[str, typer.Option(help="Give the data set this title on its card.")] = "",
    licence: Annotated[str, typer.Option(help="Name this licence of the photos on the card.")] = "",
    source: Annotated[str, typer.Option(help="Say on the card that the photos came from here.")] = "",
    settings: Settings = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Split a data set into training, validation, index and queries, disjoint by group, as Google-Landmarks has them.

    Groups that are connected by verified pairs go to the same set, and pairs that still lie across sets are reported.
    Some photos that match no other become queries without an answer. 'delf train --data' reads photos.csv, and 'delf
    evaluate' reads the folder, also with --protocol landmarks. README.md is the card of the data set: read it, and add
    what you know of licences.

    Example: [bold]delf dataset split landmarks/ -o benchmark/ --set test=0.5 --set minimum=4[/bold]
    """
    from delf.archive import SplitOptions, split_dataset, write_split
    from delf.images import display_path
    from delf.settings import parse_settings, with_settings

    made = split_dataset(folder, with_settings(SplitOptions(), parse_settings(settings or ())))
    with progress("Writing", "photos", quiet or json) as update:
        write_split(made, output, copy=copy, about={"title": title, "licence": licence, "source": source},
                    progress=update)
    counts = made.counts()
    if json:
        print_json({"folder": str(output), **counts, "leaks": [vars(leak) for leak in made.leaks]})
        return
    print(f"{display_path(output)}: {counted(counts['train'], 'photo')} to train on and {counts['val']:,} to watch it "
          f"by, {counts['holdout']:,} held out; {counts['index']:,} in the index, "
          f"{counts['answerable']:,} queries with an answer and {counts['query'] - counts['answerable']:,} without; "
          f"{counts['unused']:,} in no set")
    if made.leaks:
        say(f"{counted(len(made.leaks), 'verified pair')} lead{'s' if len(made.leaks) == 1 else ''} from one set to "
            "another that should have nothing in common: leaks.csv. Merge their groups in decisions.csv, or throw "
            "photos out, if that is so", quiet)


def clean(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Read labelled photos as 'delf train --data' does: "
                                                                  "from a folder with one folder for each class, or "
                                                                  "from a CSV file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CSV", help="Write the list of photos that stay to "
                                                                               "this CSV file; the others are listed "
                                                                               "in a file beside it, with the "
                                                                               "reasons.")],
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Read the names in a CSV file relative to "
                                                "this folder; by default to the folder of the CSV file.")] = None,
    collection: Annotated[Path | None, typer.Option(help="Keep the features in this collection; by default CSV with "
                                                         "the suffix .delf.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model: the name of a packaged one, or a file. By default "
                                              f"the collection's own is used, and {MODEL} for a new one.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    json: Json = False, quiet: Quiet = False,
) -> None:
    """Take wrongly labelled photos out of a data set: a photo stays if enough others of its class match it.

    Photos from the web have wrong labels, and inside views and portraits are among them. 'delf train --data' reads the
    list of photos that stay. A list beside it says why each other photo was left out, and which class it may belong to.

    Example: [bold]delf dataset clean photos/ -o clean.csv[/bold], then
    [bold]delf train cpu --data clean.csv --start resnet18.safetensors -o landmarks.safetensors[/bold]
    """
    from delf.archive import CleanOptions, clean_photos
    from delf.images import display_path
    from delf.settings import with_settings
    from delf.training.photos import SplitOptions, read_photos

    silent = quiet or json
    extraction, others = extraction_options(settings)
    options = with_settings(CleanOptions(), others)
    labelled = read_photos(photos, images, SplitOptions(minimum=1), report=lambda sentence: say(sentence, silent))
    place = collection or output.with_suffix(".delf")
    own = extractor_as_before(place, extractor, model, runtime, device, threads, silent, extraction)
    with progress("Extracting", "photos", silent) as extracting, \
            progress("Preparing", "segments", silent) as preparing, \
            progress("Matching", "photos", silent) as matching:
        found = clean_photos(labelled, place, own, options=options, extracting=extracting, preparing=preparing,
                             matching=matching)
    if found.interrupted:
        say("What has been extracted and matched is kept; run the same command to continue.")
        raise typer.Exit(130)
    left_out = found.write(output)
    if json:
        print_json({"photos": len(found.judged), "kept": len(found.kept), "left_out": [
            {"file": str(one.photo.path), "class": one.photo.label, "why": one.why, "evidence": one.evidence,
             "partners": one.partners, "likelier": one.likelier} for one in found.judged if one.why]})
        return
    print(f"{display_path(output)}: {counted(len(found.kept), 'photo')} of {len(found.judged):,} stay")
    say(f"Why the others do not is in {display_path(left_out)}", quiet)
