"""A checkpoint of torch: its weights by name, whatever they are wrapped in, and what else it says.

Weights lie under `state_dict` or `model_state_dict` or at the top, their names begin with `module.` where several GPUs
trained them, and they may be in dictionaries of parts (`base`, `attn`), whose names are joined by a dot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.formats.files import require_file
from delf.types import FloatArray
from delf.weights.torchfile import TorchFile
from delf.weights.torchpickle import Numbers, Tensor, Unknown
from delf.weights.trunk import Shape

WRAPPERS = ("state_dict", "model_state_dict", "model")
_DATA_PARALLEL = "module."
_NO_WEIGHTS = ("optimizer", "scheduler", "meta")


class Checkpoint:
    """The weights in a file of torch, or in one of safetensors.

        checkpoint = Checkpoint(Path("how_r50-.pth"))
        kernel = checkpoint.read("features.0.weight", (64, 3, 7, 7))

    shapes: of the weights, by name. content: all that the file holds, its tensors not read yet; empty for safetensors.
    """

    def __init__(self, path: Path) -> None:
        """Read all but the numbers.

        Raises:
            ModelError: the file is missing or damaged, or holds no weights by name.
        """
        self.path, self.content = path, dict[Any, Any]()
        self._tensors = dict[str, Tensor]()
        if path.suffix == ".safetensors":
            self.shapes = _safetensors(path)
            return
        self._file = TorchFile(path)
        if isinstance(self._file.content, Unknown):
            raise ModelError(f"{str(path)!r} holds a whole object of the class {self._file.content.name!r:.80}, and "
                             "not weights by their names: load it with the code that it belongs to, and save its "
                             "state_dict()")
        self.content = self._file.content if isinstance(self._file.content, dict) else {}
        weights = next((found for name in WRAPPERS if isinstance(found := self.content.get(name), dict)), self.content)
        tensors = dict(_flat(weights))
        if tensors and all(name.startswith(_DATA_PARALLEL) for name in tensors):
            tensors = {name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in tensors.items()}
        if not tensors:
            raise ModelError(f"{str(path)!r} holds no weights by their names; get the file of a model's state_dict")
        self._tensors = tensors
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def read(self, name: str, shape: Shape) -> FloatArray:
        """The weights of a name, of this shape, as float32.

        Raises:
            ModelError: there are none, or of another shape; or the file is damaged.
        """
        if name not in self.shapes:
            raise ModelError(f"{str(self.path)!r} has no weights {name!r}, which a model of its kind has: it is of "
                             "another model, or not complete; get the file again")
        if self.shapes[name] != shape:
            raise ModelError(f"the weights {name!r} in {str(self.path)!r} have the shape {self.shapes[name]}, not "
                             f"{shape}: they are of another model; get the right file")
        array = self._file.read(self._tensors[name]) if self._tensors else _read_safetensors(self.path, name)
        if not np.isfinite(array).all():
            raise ModelError(f"the weights {name!r} in {str(self.path)!r} hold NaN or infinite values, with which "
                             "nothing can be computed; get the file again")
        return array

    def read_all(self, variables: Iterable[tuple[str, str, Shape]]) -> dict[str, FloatArray]:
        """Many: (a name of one's own, that in the file, the shape) -> by one's own name.

        Raises:
            ModelError: as for `read`.
        """
        arrays = {ours: self.read(theirs, shape) for ours, theirs, shape in variables}
        for ours, array in arrays.items():
            if ours.endswith("running_var") and array.min() < 0:
                raise ModelError(f"the variances of {ours.rsplit('.', 1)[0]!r} in {str(self.path)!r} are below 0: they "
                                 "are damaged; get the file again")
        return arrays

    def numbers(self, found: Any, what: str) -> FloatArray:
        """An array of numpy or torch that the content holds, as float32. what: it, in words.

        Raises:
            ModelError: it is no array.
        """
        try:
            if isinstance(found, Tensor):
                return self._file.read(found)
            if isinstance(found, Numbers):
                return found.array()
        except ValueError as error:
            raise ModelError(f"{what} in {str(self.path)!r} is damaged ({error}); get the file again") from error
        raise ModelError(f"{what} in {str(self.path)!r} is no array of numbers; get the file again")

    def table(self, *names: str) -> Mapping[str, Any]:
        """A dictionary in the content, by the names that lead to it; empty where there is none."""
        found: Any = self.content
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises `ModelError` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions") from error


def _flat(found: Mapping[Any, Any], prefix: str = "", depth: int = 2) -> Iterable[tuple[str, Tensor]]:
    for name, value in found.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict) and depth and name not in _NO_WEIGHTS:
            yield from _flat(value, f"{prefix}{name}.", depth - 1)


def _safetensors(path: Path) -> dict[str, Shape]:
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{str(path)!r} cannot be read as a safetensors file ({error}); get it again") from error


def _read_safetensors(path: Path, name: str) -> FloatArray:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return np.asarray(file.get_tensor(name), np.float32)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"the weights {name!r} in {str(path)!r} cannot be read ({error}); get the file again, in "
                         "single or half precision") from error
