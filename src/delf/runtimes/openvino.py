"""OpenVINO on the CPU: reads the same file as ONNX Runtime, and gives the same features up to rounding: of float32, or
of bfloat16 where the processor computes in it, which takes a fifth to a half of the time.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import numpy as np

from delf.errors import ModelError, OptionError, missing_dependency
from delf.models import OUTPUTS, ModelFiles, read_onnx
from delf.models.digest import read_sealed
from delf.pools import Lock, forks
from delf.privacy import openvino_alone
from delf.runtimes import NetworkOutput
from delf.types import FloatArray

try:
    with openvino_alone():
        import openvino
except ImportError as error:
    raise missing_dependency("openvino", "openvino", "the runtime 'openvino'") from error


KEPT_SHAPES = 320  # compiled steps: those of two image sizes with seven levels; as many as it likes take gigabytes
_first = Lock()  # two threads that hand over their first arrays at once wait for each other for ever
_of_the_parent: list[Any] = []  # kept, as their end would wait for threads that this process does not have


class OpenVinoRuntime:
    """Each call runs on one thread: as many calls as there are cores run side by side, and others wait.

    The network is loaded once, for images of any size. Each thread that calls has an inference request of its own,
    which keeps the memory of the largest image that it has seen.

    precision: of the products, "f32" or "bf16". Sums are float32 in both, as are images and outputs.
    """

    def __init__(self, files: ModelFiles, device: str = "cpu", precision: str = "f32") -> None:
        self.name = "openvino" if precision == "f32" else f"openvino-{precision}"
        if device != "cpu":
            raise OptionError(f"the runtime {self.name!r} computes on the CPU only, not on {device!r}; "
                              "use the runtime 'torch'")
        if precision == "bf16" and not computes_in_bfloat16():
            raise OptionError("this processor does not compute in bfloat16 (which takes AVX-512 BF16 or AMX); use the "
                              "runtime 'openvino' or 'onnx'")
        path = files.require("onnx")
        data = read_sealed(path)
        self._precision, self._lock = precision, Lock()
        try:
            self._graph = openvino.Core().read_model(data)
            metadata = _metadata(self._graph)
            outputs = [output.any_name for output in self._graph.outputs]
            self._begin()
        except Exception as error:  # what it raises has a trace through its source in the text
            raise ModelError(f"{path} cannot be read as an ONNX model; get it again") from error
        self.device = device
        self.config, self.pca, self.whitening = read_onnx(path, metadata, outputs)

    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network."""
        # OpenVINO (seen in 2026.4, with AMX) reads memory that it never wrote where maps are one cell wide.
        narrow = min(images.shape[2:]) <= 2 * self.config.stride
        results = self._request("f32" if narrow else self._precision).infer({"images": images}, share_inputs=True)
        return NetworkOutput(*(results[name] for name in OUTPUTS))

    def _begin(self) -> None:
        """Compile the network, in a new process anew: OpenVINO's threads do not live on in one that was forked."""
        self._networks: dict[str, Any] = {}
        self._requests = threading.local()
        self._process = forks()
        with _first:
            self._request(self._precision).infer({"images": np.zeros((1, 3, 64, 64), np.float32)}, share_inputs=True)

    def _request(self, precision: str) -> Any:
        """The inference request of this thread."""
        if self._process != forks():
            with self._lock:
                if self._process != forks():
                    _of_the_parent.append((self._networks, self._requests))
                    self._begin()
        request = getattr(self._requests, precision, None)
        if request is None:
            with self._lock:
                if precision not in self._networks:
                    self._networks[precision] = _compiled(self._graph, precision)
            request = self._networks[precision].create_infer_request()
            setattr(self._requests, precision, request)
        return request


@cache
def computes_in_bfloat16() -> bool:
    """Whether OpenVINO finds this processor to be faster in bfloat16 than in float32."""
    return bool(openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT") == openvino.Type.bf16)


def _compiled(graph: Any, precision: str) -> Any:
    """The network for images of any size, with one thread for each stream."""
    cores = os.cpu_count() or 1
    return openvino.Core().compile_model(graph, "CPU", {
        "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False, "CPU_RUNTIME_CACHE_CAPACITY": KEPT_SHAPES})


def _metadata(graph: Any) -> dict[str, str]:
    """The properties of the ONNX file."""
    held = graph.rt_info["framework"] if "framework" in list(graph.rt_info) else {}
    return {key: str(held[key].value) for key in list(held)}
