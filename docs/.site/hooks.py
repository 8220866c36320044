"""What the site has beside the pages of docs/: files of the repository, and references made from the code.

The pages link to each other, and to files outside of docs/, by paths in the repository, so that they can be read there.
Here those paths become addresses of the site; a link to a file that the site does not have becomes plain text.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {  # files outside of docs/, and where they are on the site
    "README.md": "readme.md", "ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md", "benchmarks/RESULTS.md": "benchmarks/results.md",
    "benchmarks/CHOICES.md": "benchmarks/choices.md", "benchmarks/FAILURES.md": "benchmarks/failures.md",
    "src/delf/models/delf-r18.md": "models/delf-r18.md"}
SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:)([^()#\s]*)(#[^()\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name at its end, so that none is hidden."""
    named = set(_named(config.nav))
    found = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    missing = [name for name in found if name not in named]
    if missing:
        config.nav = [*(config.nav or []), {"More": missing}]
    return config


def _named(nav: Any) -> Iterator[str]:
    """The files in a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _named(part)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "commands.md", content="\n".join(commands())))
    files.append(File.generated(config, "library.md", content="\n".join(library())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository as links between pages of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def linked(found: re.Match[str]) -> str:
        picture, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target:
            return found[0]
        source = posixpath.normpath(posixpath.join(folder, target))
        place = PAGES.get(source, source.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            return f"`{text}`" if re.fullmatch(r"[\w./-]+", text) else text
        return f"{picture}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(linked, markdown)


# --- the command line


def commands() -> Iterator[str]:
    """The reference of the command line, from what `--help` says."""
    from delf.cli.app import app

    yield "# Commands\n"
    yield ("What `delf COMMAND --help` says of each command. Exit codes: 0 done, 1 failed, 2 wrong usage, "
           "130 interrupted. With `--json`, stdout is JSON and nothing else.\n")
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield f"## delf {name}\n\n{_text(command.help)}\n"
            for inner, one in command.commands.items():
                yield from _command(f"delf {name} {inner}", one, "###")
        else:
            yield from _command(f"delf {name}", command, "##")


def _command(name: str, command: Any, level: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    pieces = [piece.replace("{", "").replace("}", "").replace("......", "...")
              for one in command.params for piece in one.get_usage_pieces(context)]
    usage = [name, "[OPTIONS]", *pieces]
    yield f"{level} {name}\n\n```\n{' '.join(usage)}\n```\n\n{_text(command.help)}\n"
    records = [one.get_help_record(context) for one in command.params if not one.hidden and one.name != "help"]
    rows = [(names, _text(about).replace("|", "\\|").replace("\n", " ")) for names, about in filter(None, records)]
    if rows:
        yield "| argument or option | what it is |\n|---|---|"
        yield from (f"| `{_named_as(names)}` | {about} |" for names, about in rows)
        yield ""


def _named_as(names: str) -> str:
    """An argument or option with what it takes, of which Typer says the type where it has no better name."""
    names = names.strip("[]").replace("...", "")
    takes = {"int": "NUMBER", "float": "NUMBER", "str": "TEXT", "path": "PATH", "Path": "PATH"}
    if not names.startswith("-"):
        return re.sub(r" <.*>$", "", names)
    return re.sub(r"<(?:list\[)?(\w+)[^>]*>$", lambda found: takes.get(found[1], found[1].upper()), names)


def _text(help: str | None) -> str:
    """What a terminal shows, as Markdown."""
    text = inspect.cleandoc(help or "").replace("<", "&lt;")
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text, flags=re.DOTALL)
    return text.replace("\\[", "[").replace("*", "\\*")


# --- the library


def library() -> Iterator[str]:
    """The reference of the library: what `import delf` offers, by its docstrings."""
    import delf

    yield "# The library\n"
    yield "Everything here is imported from `delf`: `from delf import Collection`.\n"
    for name in delf.__all__:
        home = getattr(delf, name)
        yield f"::: {home.__module__}.{home.__qualname__}\n"
