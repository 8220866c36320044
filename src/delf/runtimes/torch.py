"""PyTorch: for GPUs, and for models that have no ONNX file."""

from __future__ import annotations

from delf.errors import ModelError, OptionError, missing_dependency
from delf.models import ModelFiles
from delf.runtimes import NetworkOutput
from delf.types import FloatArray

try:
    import torch

    from delf.network.model import DelfModel
except ImportError as error:
    raise missing_dependency("torch", "torch", "the runtime 'torch'") from error


class TorchRuntime:
    """The model in evaluation mode, on any device of torch, in single precision.

    Its batch norms are folded and it computes channels last, unless `folded` says otherwise: what a model in PyTorch
    is without further care, which `delf benchmark` compares with.
    """

    name = "torch"

    def __init__(self, files: ModelFiles, device: str = "cpu", *, folded: bool = True) -> None:
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

    @torch.inference_mode()
    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network."""
        batch = torch.from_numpy(images).to(self._device, memory_format=self._format)
        return NetworkOutput(*(output.float().cpu().contiguous().numpy() for output in self._model(batch)))
