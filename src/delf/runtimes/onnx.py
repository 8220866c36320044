"""ONNX Runtime on the CPU: the default, and all that a plain install needs."""

from __future__ import annotations

import onnxruntime

from delf.errors import ModelError, OptionError
from delf.models import OUTPUTS, ModelFiles, read_onnx
from delf.models.digest import read_sealed
from delf.privacy import quiet_onnxruntime
from delf.runtimes import NetworkOutput
from delf.types import FloatArray


class OnnxRuntime:
    """Each call runs on the calling thread alone: parallel work comes from calling it on several threads at once.

    That is faster than splitting one convolution over the cores, and makes results independent of their number.

    eight_bit: whether the file is taken that computes in 8 bits (`delf.network.quantise`).
    """

    def __init__(self, files: ModelFiles, device: str = "cpu", *, eight_bit: bool = False) -> None:
        self.name = "onnx-int8" if eight_bit else "onnx"
        if device != "cpu":
            raise OptionError(f"the runtime {self.name!r} computes on the CPU only, not on {device!r}; "
                              "use the runtime 'torch'")
        path = files.require("eight_bit" if eight_bit else "onnx")
        quiet_onnxruntime(onnxruntime)
        data = read_sealed(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # sizes differ from call to call
        options.log_severity_level = 4  # what goes wrong comes back as an exception
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            outputs = [output.name for output in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime's own classes are not public
            raise ModelError(f"{path} cannot be read as an ONNX model ({_first_line(error)}); get it again") from error
        self.device = device
        self.config, self.pca, self.whitening = read_onnx(path, metadata, outputs)

    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network."""
        return NetworkOutput(*self._session.run(list(OUTPUTS), {"images": images}))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
