"""Nothing is sent: libraries that would record how they are used, to send it to their makers, are kept from it.

Importing `delf`, whichever part of it, sets what they look at when they are loaded. A library that a program has loaded
before `delf` has done by then what it does; ONNX Runtime is told once more before a model is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""Variables of the environment; processes that this one starts have them too. One that the user has set is left."""


def switch_off() -> None:
    """Set `SWITCHES`, before the libraries that read them are loaded."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)


def quiet_onnxruntime(onnxruntime: Any) -> None:
    """Tell ONNX Runtime to record nothing, if it was loaded before the variable was set. Old versions cannot."""
    getattr(onnxruntime, "disable_telemetry_events", lambda: None)()


@contextmanager
def openvino_alone() -> Iterator[None]:
    """Inside, OpenVINO is imported as it is where its telemetry, a package of its own, is not installed.

    Its import sends an event by that, and there is no variable to keep it from it.
    """
    package, absent = "openvino_telemetry", object()
    before: Any = sys.modules.get(package, absent)
    sys.modules[package] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        yield
    finally:
        if before is absent:
            sys.modules.pop(package, None)
        else:
            sys.modules[package] = before
