"""Photos that a collection has more than once: exact copies and near-duplicates, and a way to move them aside.

    found = find_duplicates(collection)             # groups, the best file of each first; nothing is changed
    move_duplicates(found, "aside")                 # all but the best of each group; never deletes, never overwrites
    undo_moves("aside")                             # back to where they were

`finding` has which files belong together and which of them is the best, `moving` what makes moves safe, `table` the
files in CSV.
"""

from delf.duplicates.finding import DuplicateFile, DuplicateGroup, Duplicates, find_duplicates
from delf.duplicates.moving import MoveReport, UndoReport, move_duplicates, undo_moves
from delf.duplicates.table import Move

__all__ = ["DuplicateFile", "DuplicateGroup", "Duplicates", "Move", "MoveReport", "UndoReport", "find_duplicates",
           "move_duplicates", "undo_moves"]
