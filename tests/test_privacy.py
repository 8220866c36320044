"""Nothing is sent: commands run in an empty home and, where that may be, without a network, and are watched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from delf import privacy

# What a user does, in a network of its own that has nothing but this machine itself.
SESSION = """
import contextlib, fcntl, io, json, socket, struct, subprocess, sys, urllib.request
from delf import Client
from delf.cli import main
folder, photo, runtime, alone = sys.argv[1:]
if alone == "alone":  # `lo` is there, but down
    flags = struct.pack("16sH14x", b"lo", 0x1 | 0x40)
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, flags)
small = ["--threads", "1", "--runtime", runtime, "-q"]
def delf(*words):
    sys.argv = ["delf", *words, *small]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            assert not end.code, end.code
    return said.getvalue()
delf("index", photo, "-o", folder, "--model", "delf-r18-int8", "--max-features", "50")
found = delf("search", folder, photo, "--json")
assert json.loads(found)["match"], found
served = subprocess.Popen([sys.executable, "-m", "delf", "serve", folder, "--port", "0", *small],
                          stdout=subprocess.PIPE, text=True)
try:
    address = served.stdout.readline().split()[-1].rstrip("/")
    with urllib.request.urlopen(address) as page:
        assert b"<html" in page.read()
    assert Client(address).search(photo).match
finally:
    served.terminate()
    served.wait(120)
"""


def _able(*command: str) -> bool:
    """Whether a program is there and may do what it is for."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_nothing_is_recorded_or_sent(runtime: str, photos: Path, tmp_path: Path) -> None:
    """No file appears in the home, and where strace may look, no connection but to this machine is tried."""
    if runtime == "openvino":
        pytest.importorskip("delf.runtimes.openvino")
    pytest.importorskip("uvicorn")
    home, log = tmp_path / "home", tmp_path / "calls"
    home.mkdir()
    alone = ["unshare", "-rn"] if _able("unshare", "-rn") else []
    traced = ["-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    watched: list[str] = next((command for command in (["strace", "--seccomp-bpf", *traced], ["strace", *traced])
                               if _able(*command)), [])  # the first one stops at no other calls
    kept = {name: value for name, value in os.environ.items()
            if name not in ("CI", "TF_BUILD", "JENKINS_URL", *privacy.SWITCHES)}  # where some libraries keep quiet
    done = subprocess.run([*watched, *alone, sys.executable, "-c", SESSION, str(tmp_path / "c.delf"),
                           str(photos / "astronaut.jpg"), runtime, "alone" if alone else ""], capture_output=True,
                          text=True, check=False, env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "c")})
    assert done.returncode == 0, done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()]
    if watched:
        assert not _outward(log.read_text(encoding="utf-8", errors="replace"))


def _outward(calls: str) -> list[str]:
    """The lines of strace that name an address of another machine."""
    named = [line for line in calls.splitlines() if "sa_family=AF_INET" in line]
    return [line for line in named if not re.search(r'inet_addr\("127\.|"::1"|"::ffff:127\.', line)]


def test_other_machines_are_seen() -> None:
    """The check above would fail if something were sent."""
    inward = 'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
    outward = inward.replace("127.0.0.1", "10.0.0.1")
    later = 'connect(3, {sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "fd00::53", &sin6_addr)}, 28) = 0'
    assert _outward("\n".join([inward, outward, later, "+++ exited with 0 +++"])) == [outward, later]


def test_what_the_user_has_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = privacy.SWITCHES
    monkeypatch.setenv(first, "0")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    privacy.switch_off()
    assert os.environ[first] == "0"
    assert {name: os.environ[name] for name in others} == {name: privacy.SWITCHES[name] for name in others}


@pytest.mark.parametrize("loaded", [False, True])
def test_openvino_does_not_find_its_telemetry(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while it is imported: what a program does with that package elsewhere is its own matter."""
    module = ModuleType("openvino_telemetry")
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", module)
    with privacy.openvino_alone(), pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    assert sys.modules.get("openvino_telemetry") is (module if loaded else None)


@pytest.mark.usefixtures("network_is_asked")
def test_onnxruntime_is_told_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from delf.models import find_model
    from delf.runtimes import onnx

    told: list[str] = []
    inner = onnx.onnxruntime

    class Session(inner.InferenceSession):  # type: ignore[misc,name-defined]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            told.append("loaded")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(inner, "disable_telemetry_events", lambda: told.append("quiet"), raising=False)
    monkeypatch.setattr(inner, "InferenceSession", Session)
    onnx.OnnxRuntime(find_model("delf-r18-int8"))
    assert told == ["quiet", "loaded"]
    privacy.quiet_onnxruntime(SimpleNamespace())  # a version that has no such function
