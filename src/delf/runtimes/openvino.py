"""OpenVINO on the CPU: reads the same file as ONNX Runtime, and gives the same features up to float rounding."""

from __future__ import annotations

import os
import threading
from typing import Any

from delf.errors import ModelError, OptionError, missing_dependency
from delf.models import OUTPUTS, ModelFiles, read_onnx
from delf.runtimes import NetworkOutput
from delf.types import FloatArray

try:
    import openvino
except ImportError as error:
    raise missing_dependency("openvino", "openvino", "the runtime 'openvino'") from error


class OpenVinoRuntime:
    """Each call runs on one thread: as many calls as there are cores run side by side, and others wait.

    The network is compiled once, for images of any size. Each thread that calls has an inference request of its own,
    which keeps the memory of the largest image that it has seen.
    """

    name = "openvino"

    def __init__(self, files: ModelFiles, device: str = "cpu") -> None:
        if device != "cpu":
            raise OptionError(f"the runtime 'openvino' computes on the CPU only, not on {device!r}; "
                              "use the runtime 'torch'")
        path = files.require("onnx")
        cores = os.cpu_count() or 1
        try:
            core = openvino.Core()
            graph = core.read_model(path.read_bytes())
            metadata = _metadata(graph)
            outputs = [output.any_name for output in graph.outputs]
            self._network = core.compile_model(graph, "CPU", {
                "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores,  # one thread for each stream
                "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False})
        except Exception as error:  # what it raises has a trace through its source in the text
            raise ModelError(f"{path} cannot be read as an ONNX model; get it again") from error
        self.device = device
        self.config, self.pca, self.whitening = read_onnx(path, metadata, outputs)
        self._requests = threading.local()

    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network."""
        request: Any = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._network.create_infer_request()
        results = request.infer({"images": images}, share_inputs=True)
        return NetworkOutput(*(results[name] for name in OUTPUTS))


def _metadata(graph: Any) -> dict[str, str]:
    """The properties of the ONNX file."""
    held = graph.rt_info["framework"] if "framework" in list(graph.rt_info) else {}
    return {key: str(held[key].value) for key in list(held)}
