"""Files of torch, written by Python: where the disk is full, torch says nothing of it, or ends the process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch


def save_torch(content: Any, path: Path) -> None:
    """As `torch.save`. Raises `OSError` where the file cannot be written."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def save_script(module: torch.jit.ScriptModule, path: Path, files: dict[str, str]) -> None:
    """As `torch.jit.save`, with other files in it. Errors as for `save_torch`."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files=files)
    path.write_bytes(buffer.getbuffer())
