"""From an archive of photos to a data set, as Google-Landmarks was made: groups of what photos show, found by the index
of the archive itself, with positions where there are any, and with what a person decides.

    built = build_dataset(["photos/"], "landmarks/", Delf.load())   # groups.csv and more (`tables`)
    append_decision(built.folder / "decisions.csv", Decision("merge", "12", "31"))
    build_dataset([], "landmarks/", Delf.load())                    # honours it, and matches nothing again

`geography` and `positions` have where photos were taken, `decisions` and `resolving` what a person says, `tables` the
files, `building` the whole; what pairs join is `delf.grouping.joining`. `splitting` makes sets of the groups,
`publishing` and `card` a folder of them.
"""

from delf.archive.building import BuildOptions, Built, build_dataset
from delf.archive.cleaning import Cleaned, CleanOptions, Judgement, clean_photos, judge_labels
from delf.archive.decisions import ACTIONS, Decision, append_decision, read_decisions, undo_decision
from delf.archive.positions import PlaceOptions, Places
from delf.archive.publishing import write_split
from delf.archive.reviewing import Review
from delf.archive.splitting import Split, SplitOptions, split_dataset
from delf.archive.tables import (
    COLLECTION,
    DECISIONS,
    BridgeRow,
    LandmarkRow,
    PhotoRow,
    collection_of,
    read_bridges,
    read_landmarks,
    read_photos,
)

__all__ = ["ACTIONS", "COLLECTION", "DECISIONS", "BridgeRow", "BuildOptions", "Built", "CleanOptions", "Cleaned",
           "Decision", "Judgement", "LandmarkRow", "PhotoRow", "PlaceOptions", "Places", "Review", "Split",
           "SplitOptions", "append_decision", "build_dataset", "clean_photos", "collection_of", "judge_labels",
           "read_bridges", "read_decisions", "read_landmarks", "read_photos", "split_dataset", "undo_decision",
           "write_split"]
