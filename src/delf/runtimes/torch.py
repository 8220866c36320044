"""PyTorch: for GPUs, and for models that have no ONNX file."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np

from delf.errors import ModelError, OptionError, missing_dependency
from delf.models import ModelFiles
from delf.pools import Lock
from delf.runtimes import NetworkOutput
from delf.types import FloatArray

try:
    import torch

    from delf.network.model import DelfModel
except ImportError as error:
    raise missing_dependency("torch", "torch", "the runtime 'torch'") from error


_first = Lock()


class TorchRuntime:
    """The model in evaluation mode, on any device of torch.

    Its batch norms are folded and it computes channels last, unless `folded` says otherwise: what a model in PyTorch
    is without further care, which `delf benchmark` compares with. Where the memory of a device does not hold a batch,
    its halves are computed one after the other.

    precision: of the convolutions, "f32" or "bf16".
    """

    def __init__(self, files: ModelFiles, device: str = "cpu", precision: str = "f32", *, folded: bool = True) -> None:
        self.name = "torch" if precision == "f32" else f"torch-{precision}"
        self._bfloat16 = precision == "bf16"
        self._too_large = math.inf  # numbers in a batch that did not fit into the memory
        path = files.require("safetensors")
        model = DelfModel.from_pretrained(path)
        if model.pca is None:
            raise ModelError(f"{path} has no PCA, so that it cannot describe features yet")
        try:
            self._device = torch.device(device)
            self._format = torch.channels_last if folded else torch.contiguous_format
            self._model = (model.folded() if folded else model).to(
                self._device, memory_format=self._format)  # type: ignore[call-overload]
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise OptionError(f"torch cannot use the device {device!r}: {reason}") from error
        self.device = device
        self.config = model.config
        self.pca = model.pca
        self.whitening = model.whitening

    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network.

        Raises:
            OptionError: not even one image fits into the memory of the device.
        """
        if len(images) == 1 or images.size < self._too_large:
            try:
                return self._run(images)
            except RuntimeError as error:  # each kind of device has its own
                if "out of memory" not in str(error).lower():
                    raise
            self._too_large = min(self._too_large, images.size)
        if len(images) == 1:
            raise OptionError(f"an image of {images.shape[3]} x {images.shape[2]} pixels does not fit into the memory "
                              f"of the device {self.device!r}; use a smaller max_image_size, or the device 'cpu'")
        half = len(images) // 2
        parts = self.run(images[:half]), self.run(images[half:])
        return NetworkOutput(*(np.concatenate([getattr(part, field.name) for part in parts])
                               for field in fields(NetworkOutput)))

    @torch.inference_mode()
    def _run(self, images: FloatArray) -> NetworkOutput:
        with _first:  # threads of a forked process that come to this at once find a pool that is just being made anew
            torch.get_num_threads()
        # oneDNN (with AMX, on the CPU) reads memory that it never wrote where maps are one cell wide.
        narrow = min(images.shape[2:]) <= 2 * self.config.stride
        batch = torch.from_numpy(images).to(self._device, memory_format=self._format)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16 and not narrow):
            outputs = self._model(batch)
        return NetworkOutput(*(output.float().cpu().contiguous().numpy() for output in outputs))
