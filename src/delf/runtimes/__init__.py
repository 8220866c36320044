"""What computes the network: one contract, several runtimes, the fastest that is installed by default.

A runtime takes `(B, 3, H, W)` float32 RGB images in 0..255 and gives the feature map, the attention and the global
descriptor of each. The model normalises the images itself. A new runtime is one file and one line in `RUNTIMES`; the
conformance suite in `tests/runtimes` runs over every key.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from delf.errors import ModelError, OptionError
from delf.models import (
    DEFAULT_MODEL,
    EIGHT_BIT,
    METADATA_KEY,
    PCA,
    ModelConfig,
    ModelFiles,
    Whitening,
    find_model,
)
from delf.models.digest import read_metadata
from delf.models.metadata import safetensors_metadata
from delf.types import FloatArray


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What the network says of B images of one size.

    feature_map: (B, C, h, w) float32, un-normalised. attention: (B, h, w) float32, non-negative.
    global_descriptor: (B, G) float32, un-normalised; G = 0 where the runtime cannot pool it (R-MAC in ONNX), which the
        extractor then does.
    """

    feature_map: FloatArray
    attention: FloatArray
    global_descriptor: FloatArray


class Runtime(Protocol):
    """The contract. `run` may be called from several threads at once; the result for an image does not depend on the
    others of its batch.
    """

    name: str
    device: str
    config: ModelConfig
    pca: PCA
    whitening: Whitening | None  # of the global descriptor; not applied by the runtime

    def run(self, images: FloatArray) -> NetworkOutput:
        """(B, 3, H, W) float32 RGB in 0..255 -> the outputs of the network."""
        ...


def _onnx(files: ModelFiles, device: str, *, eight_bit: bool = False) -> Runtime:
    from delf.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(files, device, eight_bit=eight_bit)


def _openvino(files: ModelFiles, device: str, precision: str = "f32") -> Runtime:
    from delf.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(files, device, precision)


def _torch(files: ModelFiles, device: str, precision: str = "f32") -> Runtime:
    from delf.runtimes.torch import TorchRuntime

    return TorchRuntime(files, device, precision)


RUNTIMES: dict[str, Callable[[ModelFiles, str], Runtime]] = {
    "onnx": _onnx, "onnx-int8": partial(_onnx, eight_bit=True),
    "openvino": _openvino, "openvino-bf16": partial(_openvino, precision="bf16"),
    "torch": _torch, "torch-bf16": partial(_torch, precision="bf16")}
"""Each runtime by its name. `onnx-int8` computes in 8 bits, with a file of its own beside the model: it takes 0.4 to
0.6 of the time of float32, for nearly the same features. `openvino-bf16` is as fast where the processor computes in
bfloat16, and nearer to float32. In float32, ONNX Runtime, OpenVINO and torch take about as long, ONNX Runtime with the
least of the disk (`benchmarks/RESULTS.md`). `torch-bf16` is for GPUs, on which nothing has been measured."""


def open_runtime(model: str | Path = DEFAULT_MODEL, runtime: str = "auto", device: str = "cpu") -> Runtime:
    """Load a model into a runtime.

    Args:
        model: as for `delf.models.find_model`.
        runtime: a key of `RUNTIMES`, or "auto", as for `choose_runtime`.
        device: "cpu", or a device that torch knows, such as "cuda" or "mps".

    Raises:
        OptionError: unknown runtime. ModelError: unknown or damaged model, or its files are of two models.
        MissingDependencyError: torch is needed.
    """
    files = find_model(model)
    if runtime == "auto":
        runtime = choose_runtime(files, device)
    if runtime not in RUNTIMES:
        raise OptionError(f"unknown runtime {runtime!r}; known are auto, {', '.join(RUNTIMES)}")
    opened = RUNTIMES[runtime](files, device)
    if not runtime.startswith("torch") and files.safetensors is not None:
        _require_pair(opened.config, files.safetensors, eight_bit=runtime == "onnx-int8")
    return opened


def _require_pair(config: ModelConfig, safetensors: Path, *, eight_bit: bool) -> None:
    """Make sure that the ONNX file that was opened is of the model that lies beside it: training writes one after the
    other, and may be killed in between, so that an older model would be computed.
    """
    try:
        beside = ModelConfig.from_json(safetensors_metadata(safetensors).get(METADATA_KEY, ""), safetensors)
    except ModelError:  # it is not what is computed, and may be no model of delf
        return
    if beside.fingerprint != config.fingerprint and beside.fingerprint and config.fingerprint:
        onnx = safetensors.with_suffix(".onnx")
        opened, cure = (safetensors.with_name(f"{safetensors.stem}{EIGHT_BIT}"), f"delf export {onnx} --int8 PHOTOS"
                        ) if eight_bit else (onnx, f"delf export {safetensors}")
        raise ModelError(f"{opened} is of another model than {safetensors} beside it, as where training was cut "
                         f"short between the two: make it again with: {cure}")


def choose_runtime(files: ModelFiles, device: str = "cpu") -> str:
    """The key of the fastest runtime that is installed and has its file: on the CPU one that reads an ONNX file, where
    the model has it, in bfloat16 where the processor computes in it, else in 8 bits where that is known to be faster,
    but in neither where the model asks for single precision; else torch.
    """
    if device != "cpu" or files.onnx is None:
        return "torch"
    config = _config_of(files.onnx)
    exact = config is not None and config.precision == "single"
    if not exact and find_spec("openvino") is not None and _may_compute_in_bfloat16():
        from delf.runtimes.openvino import computes_in_bfloat16

        if computes_in_bfloat16():
            return "openvino-bf16"
    if find_spec("onnxruntime") is None:
        return "openvino"
    # A file in 8 bits may be of another model, which had the same name before.
    eight = None if exact or files.eight_bit is None else _config_of(files.eight_bit)
    fits = config is not None and eight is not None and eight.fingerprint == config.fingerprint
    return "onnx-int8" if fits and _faster_in_eight_bits() else "onnx"


def _faster_in_eight_bits() -> bool:
    """Whether it was measured to be, on this kind of processor."""
    return platform.machine().lower() in ("x86_64", "amd64")


def _config_of(path: Path) -> ModelConfig | None:
    """What an ONNX file says of itself; None where it is not of a model, which is told when it is loaded."""
    try:
        text = read_metadata(path).get(METADATA_KEY)
        return None if text is None else ModelConfig.from_json(text, path)
    except ModelError:
        return None


def _may_compute_in_bfloat16() -> bool:
    """False where the system says that the processor cannot: OpenVINO, which knows for sure, is slow to load."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    return "bf16" in told or "avx_ne_convert" in told
