"""What a file of safetensors says of itself, without torch and without reading its weights."""

from __future__ import annotations

from pathlib import Path

from delf.errors import ModelError


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The pairs of texts that a file of safetensors holds besides its arrays.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a safetensors file ({error}); get it again") from error
