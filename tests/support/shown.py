"""The examples of the README and of the pages in docs/: which there are, and what is said of them.

A comment in HTML above a block says why it is not run where all others are, or what has to be there first:

    <!-- not run: it needs a GPU -->
    <!-- run by tests/service/test_client.py -->
    <!-- first:
    from mine import Mine
    -->
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("python", "sh")  # others are files, such as recipes
_BLOCK = re.compile(r"^(?:<!-- ((?:(?!-->).)*?)\s*-->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A block of code. reason: why it is not run, or nothing. by: the test that runs it. first: Python before it."""

    place: str
    language: str
    text: str
    reason: str = ""
    by: str = ""
    first: str = ""

    @property
    def is_run(self) -> bool:
        """Whether it is run where all are."""
        return not self.reason and not self.by

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell, `~` replaced as a shell does."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]


def examples(page: Path) -> list[Example]:
    """Those of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in _BLOCK.finditer(text):
        said, language, body = block.groups()
        place = f"{page.relative_to(ROOT)}:{text[: block.start(2)].count(chr(10)) + 1}"
        kind, _, rest = (said or "").partition(":")
        by = said.removeprefix("run by ") if said and said.startswith("run by ") else ""
        found.append(Example(place, language, body, reason=rest.strip() if kind == "not run" else "", by=by,
                             first=rest.lstrip("\n") if kind == "first" else ""))
    return found
