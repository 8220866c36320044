"""The CSV of decisions: read as people write it, added to and undone without a change to the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from delf.archive import Decision, append_decision, read_decisions, undo_decision
from delf.errors import DelfError, OptionError

BY_HAND = """\ufeff# what I know
Action;First;Second;Note;extra

MERGE; 12;31;seen on site;x
rename;12;"Old; bridge"
remove;photos/a b.jpg
# split;1;2
no-landmark;7;;"two
lines"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.csv"


def test_what_people_write_is_understood(file: Path) -> None:
    file.write_text(BY_HAND, encoding="utf-8")
    assert read_decisions(file) == (
        Decision("merge", "12", "31", "seen on site", 4), Decision("rename", "12", "Old; bridge", "", 5),
        Decision("remove", "photos/a b.jpg", "", "", 6), Decision("no-landmark", "7", "", "two\nlines", 8))
    assert read_decisions(file.with_name("absent.csv")) == ()


@pytest.mark.parametrize(("text", "encoding"), [("action\tfirst\tsecond\nmerge\t12\t31\n", "utf-8"),
                                                ("action\tfirst\tsecond\r\nmerge\t12\t31\r\n", "utf-16")])
def test_what_spreadsheets_call_text_is_understood(file: Path, text: str, encoding: str) -> None:
    file.write_bytes(text.encode(encoding))
    assert read_decisions(file) == (Decision("merge", "12", "31", "", 2),)
    assert append_decision(file, Decision("rename", "12", "Bridge")).line == 3
    assert [one.action for one in read_decisions(file)] == ["merge", "rename"]


def test_a_line_is_added_and_taken_away_and_the_rest_stays(file: Path) -> None:
    assert append_decision(file, Decision("merge", "1", "2")).line == 2
    assert file.read_text() == "action,first,second,note\nmerge,1,2,\n"
    file.write_text(BY_HAND.rstrip("\n"), encoding="utf-8")
    added = append_decision(file, Decision("split", "a,b.jpg", "c\nd.jpg", 'say "no"'))
    assert added == Decision("split", "a,b.jpg", "c\nd.jpg", 'say "no"', 10)
    assert len(read_decisions(file)) == 5
    assert undo_decision(file) == added
    assert file.read_text(encoding="utf-8-sig") == BY_HAND.removeprefix("\ufeff")
    assert undo_decision(file, 4) == Decision("merge", "12", "31", "seen on site", 4)
    assert "MERGE" not in file.read_text()
    assert [one.line for one in read_decisions(file)] == [4, 5, 7]
    with pytest.raises(DelfError, match="no decision in line 6"):
        undo_decision(file, 6)
    assert undo_decision(file.with_name("absent.csv")) is None


@pytest.mark.parametrize("change", [lambda file: append_decision(file, Decision("remove", "5")), undo_decision])
def test_what_somebody_saves_meanwhile_is_not_lost(change: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person in an editor, or on the page of another process."""
    file.write_text("action,first,second\nmerge,1,2\n")
    saved = "action,first,second\nmerge,1,2\nmerge,3,4\n"

    def flushed(temporary: Path) -> None:
        file.write_text(saved)

    monkeypatch.setattr("delf.archive.decisions.flush_file", flushed)
    with pytest.raises(DelfError, match="has just been changed by somebody else, and nothing was written"):
        change(file)
    assert file.read_text() == saved
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_names_that_are_no_text_come_back(file: Path) -> None:
    name = "caf\udce9.jpg"  # a byte that is no UTF-8
    append_decision(file, Decision("remove", name))
    assert read_decisions(file)[0].first == name


@pytest.mark.parametrize(("line", "words"), [
    ("join,1,2,", "one of merge"), ("merge,1,,", "both 'first' and 'second'"), ("remove,1,2,", "no 'second'"),
    ("rename,1,99,", "no name for a group"), ('merge,"1,2', "no CSV file")])
def test_what_cannot_be_honoured_is_told_with_its_line(file: Path, line: str, words: str) -> None:
    file.write_text(f"action,first,second,note\n\n{line}\n")
    with pytest.raises(DelfError, match="line 3") as caught:
        read_decisions(file)
    assert words in str(caught.value)


def test_another_table_is_refused_and_left_alone(file: Path) -> None:
    file.write_text("file,group\na.jpg,1\n")
    for attempt in (lambda: read_decisions(file), lambda: append_decision(file, Decision("remove", "1"))):
        with pytest.raises(DelfError, match="action,first,second"):
            attempt()
    assert file.read_text() == "file,group\na.jpg,1\n"
    with pytest.raises(OptionError, match="needs"):
        Decision("merge", "1")
