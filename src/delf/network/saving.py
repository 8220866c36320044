"""Files of torch as bytes that Python writes: where the disk is full, torch says nothing of it, or ends the process."""

from __future__ import annotations

import io
from typing import Any

import torch


def saved(content: Any) -> memoryview:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def saved_script(module: torch.jit.ScriptModule, files: dict[str, str]) -> memoryview:
    """What `torch.jit.save` writes, with other files in it."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files=files)
    return buffer.getbuffer()
