"""What holds for every command: help, exit codes, Ctrl-C, streams that are closed or full, completion."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from delf.cli import main
from delf.cli.console import stdout_for_results
from delf.collection import AddReport, Collection
from delf.demo.samples import read_sample

Run = Callable[..., Any]
COMMANDS = ("open", "index", "search", "serve", "match", "explore", "duplicates", "photos", "describe", "attention",
            "extract", "retrieve", "convert", "info", "remove", "compact", "check", "evaluate", "score", "reject",
            "reproduce", "benchmark",
            "demo", "train", "calibrate", "pairs", "codebook", "export")


# --- arguments


@pytest.mark.parametrize("words", [("remove", "x.delf", ""), ("index", "", "-o", "x.delf"), ("extract", "p", "-o", ""),
                                   ("info", "")])
def test_an_empty_argument_is_refused(delf: Run, words: tuple[str, ...], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a variable that is not set: it would be the folder that one is in, of which all photos would be removed."""
    monkeypatch.chdir(tmp_path)
    delf(*words).failed("is empty, as when a variable of the shell is not set", code=2)
    assert list(tmp_path.iterdir()) == []


def test_an_address_without_a_cluster_says_what_to_do(delf: Run, tmp_path: Path) -> None:
    delf("index", "s3://bucket/photos", "-o", tmp_path / "x.delf").failed("object storage", "--ray local", code=2)


def test_what_strangers_have_named_does_not_reach_the_terminal_as_it_is(
        delf: Run, make_stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    stub = make_stub(name="model\x1b[31m\nimages 7")
    stub.options.weird = "\x1b]0;title\x07"
    draw("p/1.png", 1)
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add(tmp_path / "p")
    said = [delf("info", tmp_path / "c.delf"), delf("index", tmp_path / "p", "-o", tmp_path / "c.delf"),
            delf("search", tmp_path / "c.delf", tmp_path / "p/1.png")]
    assert not any("\x1b" in one.out + one.err or "\x07" in one.out + one.err for one in said)
    assert r"model\x1b[31m\nimages 7" in said[0].ok()
    said[1].failed(r"\x1b[31m")


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(delf: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = delf(command, "--help").ok()
    assert re.search(rf"Example: delf {command} [\w~]", text)
    assert "--help" in text


def test_help_names_the_commands(delf: Run) -> None:
    text = delf("--help").ok()
    assert re.findall(r"^│ (\w+) ", text, re.MULTILINE) == [*COMMANDS, "colmap", "dataset", "weights"]
    done = delf()
    assert (done.code, done.out.strip()) == (2, text.strip()), "nothing to do is wrong usage, and shows the help"


def test_the_help_of_the_service_has_the_defaults(delf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from delf.service.options import ServiceOptions

    monkeypatch.setenv("COLUMNS", "240")
    lines, usual = delf("serve", "--help").ok().splitlines(), ServiceOptions()
    for name in ("workers", "waiting", "seconds", "upload_seconds", "header_seconds", "per_address", "upload_bytes",
                 "pixels", "jobs", "batch_photos", "spool_bytes"):
        [line] = [line for line in lines if f"--{name.replace('_', '-')} " in line]
        assert f"{getattr(usual, name):,.0f} by default" in line


def test_version(delf: Run) -> None:
    assert delf("--version").ok() == f"delf {version('delf-retrieval')}\n"


@pytest.mark.parametrize("arguments", [
    ["nosuch"], ["--nosuch"], ["index"], ["index", "photos"], ["index", "-o", "c.delf"], ["search"],
    ["search", "c.delf"], ["search", "c.delf", "q.jpg", "--nosuch"], ["search", "c.delf", "q.jpg", "--top", "0"],
    ["search", "c.delf", "q.jpg", "--top", "many"], ["search", "c.delf", "q.jpg", "--top"], ["match", "a.jpg"],
    ["index", "p", "-o", "c", "--threads", "0"], ["index", "p", "-o", "c", "--dimensions", "0"],
    ["extract", "p", "-o", "c", "--max-features", "0"], ["evaluate", "f", "--limit", "0"], ["evaluate"], ["score", "a"],
    ["info"], ["export"], ["train", "cpu"], ["train", "cpu", "--data", "m.csv"], ["pairs", "m.csv"],
    ["pairs", "m.csv", "-o", "p.npz", "--minimum-inliers", "2"], ["attention", "a.jpg"],
])
def test_wrong_usage(delf: Run, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = delf(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err
    assert list(tmp_path.iterdir()) == []


# --- Ctrl-C


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Forty photos, all different."""
    pytest.importorskip("skimage")
    folder = tmp_path / "many"
    folder.mkdir()
    image = Image.fromarray(read_sample("coffee"))
    for number in range(40):
        image.resize((180 + number, 120)).save(folder / f"{number:02}.jpg")
    return folder


def read_until(terminal: int, pattern: bytes) -> bytes:
    """What a process writes to its terminal, up to a pattern or its end."""
    text = b""
    while not re.search(pattern, text):
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # how Linux says that nobody has the terminal any more
            break
        if not piece:
            break
        text += piece
    return text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_index_interrupted_and_finished(delf: Run, many: Path, tmp_path: Path, environment: dict[str, str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    monkeypatch.chdir(tmp_path)

    terminal, stderr = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "delf", "index", "many", "-o", "c.delf", "--threads", "1"],
                               cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=stderr,
                               # a shell that runs the tests in the background has made them deaf to Ctrl-C
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    os.close(stderr)
    try:
        shown = read_until(terminal, rb"[1-9]\d*/40")
        assert b"Extracting" in shown, "a terminal gets a progress bar"
        process.send_signal(signal.SIGINT)
        shown += read_until(terminal, rb"delf: interrupted\r?\n")
        out, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        os.close(terminal)
    assert process.returncode == 130, shown
    assert b"delf: interrupted" in shown
    assert b"run the same command to continue" in shown
    assert b"Traceback" not in shown
    [done] = re.findall(r"c\.delf: (\d+) photos? added, 0 unchanged, 0 exact copies; now", out.decode())
    assert 1 <= int(done) < 40

    rest = delf("index", "many", "-o", "c.delf", "--json").object()
    assert (rest["added"], rest["unchanged"], rest["images"]) == (40 - int(done), int(done), 40)


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")
def test_sigterm_is_as_ctrl_c(delf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("delf.collection.Collection.open", ended)
    delf("info", tmp_path / "c.delf").failed("interrupted", code=130)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("place", "arguments"), [
    ("delf.search.SearchEngine.search", ["search", "{places}", "{photo}"]),
    ("delf.features.Delf.load", ["index", "{photo}", "-o", "{new}"]),
    ("delf.indexing.choose_index", ["index", "{photo}", "-o", "{new}"]),
    ("delf.exporting.write_features", ["extract", "{photo}", "-o", "{new}"]),
    ("delf.pair.match_and_verify", ["match", "{photo}", "{photo}"]),
])
def test_ctrl_c_at_any_time(delf: Run, places: Path, draw: Callable[..., Path], tmp_path: Path,
                            monkeypatch: pytest.MonkeyPatch, place: str, arguments: list[str]) -> None:
    monkeypatch.setattr(place, interrupt)
    values = {"places": places, "photo": draw("photo.png", 1), "new": tmp_path / "new"}
    done = delf(*(argument.format(**values) for argument in arguments))
    assert done.failed(code=130) == "delf: interrupted"
    assert done.out == ""


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_ctrl_c_while_photos_are_added(delf: Run, draw: Callable[..., Path], tmp_path: Path, strict: list[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collection, "add", lambda *_, **__: AddReport(0, 0, 0, ("x.jpg is empty.",), True))
    done = delf("index", draw("photo.png", 1), "-o", tmp_path / "c.delf", *strict)
    assert done.failed(code=130) == "delf: interrupted"
    assert done.skipped()[0] == "x.jpg is empty."
    assert "0 photos added" in done.out


def test_ctrl_c_ends_what_needs_all_photos(delf: Run, benchmark_folder: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """A measure over some of the photos would be wrong, and half a demo is none."""
    monkeypatch.setattr(Collection, "add", lambda *_, **__: AddReport(1, 0, 0, (), True))
    for arguments in (["evaluate", benchmark_folder, "--json"],
                      ["demo", benchmark_folder / "images", "-o", tmp_path / "demo"]):
        done = delf(*arguments)
        assert done.failed(code=130) == "delf: interrupted"
        assert done.out == ""
    assert not (tmp_path / "demo" / "report.html").exists()


# --- streams


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["search", "PLACES", "PHOTO", "-q"], ["info", "PLACES", "--json"], ["--help"]])
def test_a_reader_that_goes_away(places: Path, photos: Path, environment: dict[str, str], arguments: list[str],
                                 unbuffered: str) -> None:
    values = {"PLACES": str(places), "PHOTO": str(photos / "cell.jpg")}
    process = subprocess.Popen([sys.executable, "-m", "delf", *(values.get(a, a) for a in arguments)],
                               env=environment | {"PYTHONUNBUFFERED": unbuffered}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_head(places: Path, photos: Path, environment: dict[str, str]) -> None:
    command = f"'{sys.executable}' -m delf search '{places}' '{photos}/cell.jpg' '{photos}/coins.jpg' -q | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{photos}/cell.jpg: found\n"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["info", "PLACES"], ["--help"]])
def test_a_full_disk(places: Path, environment: dict[str, str], arguments: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "delf", *(str(places) if a == "PLACES" else a for a in arguments)],
                              env=environment | {"PYTHONUNBUFFERED": unbuffered}, stdout=full, stderr=subprocess.PIPE,
                              text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"delf: .*No space left on device.*\n", done.stderr)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("redirection", "code"), [("info PLACES >&-", 0), ("info nowhere 2>&-", 1)])
def test_closed_streams(places: Path, environment: dict[str, str], redirection: str, code: int) -> None:
    command = f"'{sys.executable}' -m delf {redirection.replace('PLACES', str(places))}"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", ""), "errors do not go to stdout instead"


def test_a_terminal_without_unicode(places: Path, draw: Callable[..., Path], environment: dict[str, str]) -> None:
    photo = draw("日本.png", 1)
    done = subprocess.run([sys.executable, "-m", "delf", "search", places, photo, "-q"],
                          env=environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u65e5\u672c.png: no match" in done.stdout


def test_a_disk_that_fails_in_the_midst(delf: Run, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied", "places.delf/segments")

    monkeypatch.setattr(Collection, "bytes_by_kind", fail)
    delf("info", places).failed("Permission denied", "places.delf/segments", "check the disk")


# --- completion


@pytest.fixture
def script() -> Path:
    path = Path(sys.executable).with_name("delf")
    if not path.exists():
        pytest.skip("needs the delf script beside the interpreter")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion(script: Path, environment: dict[str, str]) -> None:
    shown = subprocess.run(["bash", "-c", f"'{script}' --show-completion; true"], env=environment, capture_output=True,
                           text=True, check=False)
    assert "complete -o default -F _delf_completion delf" in shown.stdout
    completed = subprocess.run([script], env=environment | {"_DELF_COMPLETE": "complete_bash", "COMP_WORDS": "delf e",
                                                            "COMP_CWORD": "1"},
                               capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["explore", "extract", "evaluate", "export"]
    assert completed.stderr == ""


def test_what_others_print_gets_to_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    with stdout_for_results() as results:
        sys.stdout.write("(raylet) a node died\n")
        results.write("found\n")
    sys.stdout.write("and more\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("found\nand more\n", "(raylet) a node died\n")


@pytest.mark.parametrize("when", ["while it is imported", "before a command has begun"])
def test_ctrl_c_before_anything_has_begun(when: str, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    if when == "while it is imported":
        monkeypatch.setitem(sys.modules, "delf.cli.app", Interrupted("delf.cli.app"))
    else:
        monkeypatch.setattr("delf.cli.app.app", interrupt)
        monkeypatch.setattr(sys, "argv", ["delf", "info", "c.delf"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "delf: interrupted\n"
