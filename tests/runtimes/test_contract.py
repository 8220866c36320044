"""Every runtime keeps the contract: one suite over each key of RUNTIMES, with two models."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf import runtimes
from delf.collection import Collection
from delf.errors import MissingDependencyError, ModelError, OptionError
from delf.features import Delf
from delf.images import read_image
from delf.models import find_model
from delf.network.model import DelfModel
from delf.runtimes import RUNTIMES, choose_runtime, open_runtime
from delf.runtimes.openvino import computes_in_bfloat16
from delf.search import SearchEngine

IN_EIGHT_BITS = "onnx-int8" if platform.machine().lower() in ("x86_64", "amd64") else "onnx"
OUTPUTS = ("feature_map", "attention", "global_descriptor")


BFLOAT16 = 2.0**-8  # the relative rounding of a number
EIGHT_BITS = 0.3  # of descriptors and scores; `tests/network/test_quantise.py` says more of a model in 8 bits


def rounding(name: str, float32: float) -> float:
    """The tolerance for a runtime: what is asked of one in float32, some roundings of bfloat16, or more of 8 bits."""
    return 8 * BFLOAT16 if name.endswith("bf16") else EIGHT_BITS if name.endswith("int8") else float32


def cosines(first: Any, second: Any) -> Any:
    """Of the channels of feature maps at each place, or else of all values of each image."""
    if first.ndim != 4:
        first, second = (values.reshape(len(values), -1) for values in (first, second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return ((first * second).sum(axis=1) + 1e-12) / (lengths + 1e-12)


def cells(side: int, stride: int) -> int:
    return -(-side // stride)


SIZES = [(1, 64, 96), (2, 65, 47), (1, 1, 1), (1, 2, 300), (3, 17, 33), (1, 250, 3), (2, 97, 16), (1, 250, 31),
         (1, 200, 33)]  # batch, height, width


@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_shapes_of_any_size(runtime: Any, batch: int, height: int, width: int) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
    copy = images.copy()
    output = runtime.run(images)
    config = runtime.config
    grid = (cells(height, config.stride), cells(width, config.stride))
    assert output.feature_map.shape == (batch, config.channels, *grid)
    assert output.attention.shape == (batch, *grid)
    assert output.global_descriptor.shape == (batch, config.channels)
    for name in OUTPUTS:
        values = getattr(output, name)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert (output.attention >= 0).all()
    np.testing.assert_array_equal(images, copy)


def test_what_a_runtime_says_of_itself(runtime: Any) -> None:
    assert (RUNTIMES[runtime.name], runtime.device) == (RUNTIMES[runtime.name], "cpu")
    assert runtime.pca.mean.shape == (runtime.config.channels,)
    assert runtime.pca.components.shape == (len(runtime.pca.variances), runtime.config.channels)


def test_the_global_descriptor_is_the_generalised_mean(runtime: Any, model: Any, images: Any) -> None:
    output, p = runtime.run(images), DelfModel.from_pretrained(model).pooling.p.item()
    expected = (np.maximum(output.feature_map, 1e-6).astype(np.float64) ** p).mean(axis=(2, 3)) ** (1 / p)
    smallest = 1e-6 if runtime.name.endswith("bf16") else 0.0  # what the pooling clamps to, itself rounded
    np.testing.assert_allclose(output.global_descriptor, expected, rtol=rounding(runtime.name, 1e-4), atol=smallest)


def test_neighbours_in_a_batch_do_not_matter(runtime: Any, images: Any) -> None:
    together = runtime.run(images)
    for row in range(len(images)):
        alone = runtime.run(images[row : row + 1])
        for name in OUTPUTS:  # sums may be taken in another order, no more
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[row], rtol=1e-5, atol=1e-5)


def test_the_same_again_and_from_several_threads(runtime: Any, images: Any) -> None:
    sizes = [(181, 250), (64, 64), (100, 31)]
    parts = [np.ascontiguousarray(images[:1, :, :height, :width]) for height, width in sizes]
    alone = [runtime.run(part) for part in parts]
    with ThreadPoolExecutor(3) as pool:
        for output, expected in zip(pool.map(runtime.run, parts * 4), alone * 4, strict=True):
            for name in OUTPUTS:
                np.testing.assert_array_equal(getattr(output, name), getattr(expected, name))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["onnx", "onnx-int8", "openvino", "openvino-bf16"])
def test_a_process_that_was_forked_computes_the_same(here: list[str], name: str, tmp_path: Path) -> None:
    """The workers of multiprocessing are forked where nothing else is asked for."""
    if name not in here:
        pytest.skip("this processor does not compute in bfloat16")
    code = f"""if True:
        import os, sys
        import numpy as np
        from delf.runtimes import open_runtime
        runtime, images = open_runtime(runtime={name!r}), np.random.default_rng(0).random((1, 3, 90, 70), np.float32)
        expected, child = runtime.run(images).feature_map, os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(runtime.run(images).feature_map, expected) else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.array_equal(runtime.run(images).feature_map, expected)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("size", [None, *SIZES])
def test_runtimes_agree(opened: dict[str, Any], images: Any, size: tuple[int, int, int] | None) -> None:
    if size is not None:
        batch, height, width = size
        images = np.random.default_rng(1).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
    first, *others = opened.values()
    expected = first.run(images)
    for other in others:
        assert (other.config, other.config.fingerprint) == (first.config, first.config.fingerprint)
        output = other.run(images)
        for name in OUTPUTS:
            reference = getattr(expected, name)
            if other.name.endswith("int8"):  # single values may be far off, what is said of a place is not
                assert np.mean(cosines(getattr(output, name), reference)) > 0.98
                continue
            np.testing.assert_allclose(getattr(output, name), reference, rtol=0,
                                       atol=rounding(other.name, 1e-5) * np.abs(reference).max())
        for name in ("mean", "components", "variances"):
            np.testing.assert_array_equal(getattr(other.pca, name), getattr(first.pca, name))


def keyed(features: Any) -> dict[tuple[float, ...], int]:
    """The row of each feature, by place and scale."""
    points = np.column_stack([features.keypoints, features.scales]).tolist()
    return {tuple(point): row for row, point in enumerate(points)}


def test_runtimes_find_the_same_keypoints(opened: dict[str, Any], photos: Path) -> None:
    image = read_image(photos / "astronaut.jpg")
    first, *others = (Delf(runtime, threads=1).extract(image) for runtime in opened.values())
    assert len(first) > 50
    rows = keyed(first)
    assert len(rows) == len(first)
    for name, other in zip([*opened][1:], others, strict=True):
        found = keyed(other)
        # Features whose score is at the threshold, or the last that is kept, may differ by a rounding.
        tolerated = 2 + min(rounding(name, 0), 0.05) * len(rows)
        assert len(set(rows) & set(found)) >= len(rows) - tolerated
        assert abs(len(rows) - len(found)) <= tolerated
        pairs = np.array([(rows[key], found[key]) for key in set(rows) & set(found)])
        np.testing.assert_allclose(other.scores[pairs[:, 1]], first.scores[pairs[:, 0]], rtol=rounding(name, 1e-4))
        np.testing.assert_allclose(other.descriptors[pairs[:, 1]], first.descriptors[pairs[:, 0]],
                                   atol=rounding(name, 2e-4))
        np.testing.assert_allclose(other.global_descriptor, first.global_descriptor, atol=rounding(name, 1e-5))


SEARCHED = ("coffee", "coffee-side", "gravel", "rocket", "rocket-side")


def test_runtimes_rank_photos_alike(here: list[str], half_size: Path, queries: Any, tmp_path: Path) -> None:
    exact, all_of_them = [], []
    asked = [tmp_path / f"{name}.png" for name in ("coffee", "rocket")]
    for path in asked:
        with Image.open(queries[path.stem].path) as image:
            image.reduce(2).save(path)
    extractors = {name: Delf.load(runtime=name, threads=2) for name in here}
    for name, extractor in extractors.items():
        with Collection.create(tmp_path / f"{name}.delf", extractor) as collection:
            collection.add([half_size / f"{searched}.jpg" for searched in SEARCHED])
            # A collection can be searched with any runtime, whichever has made it.
            for searching in (extractors if name == "onnx" else ["onnx"]):
                engine = SearchEngine(collection, extractors[searching])
                answers = [engine.search(path, top=2) for path in asked]
                found = [[(result.image, result.inliers) for result in answer.results] for answer in answers]
                all_of_them.append(found)
                if not any(short in name + searching for short in ("bf16", "int8")):
                    exact.append(found)

    def agree(rankings: list[list[list[tuple[str, int]]]], tolerance: float) -> bool:
        """The same photos, with inliers that differ by a share of them."""
        first = [[image for image, _ in answer] for answer in rankings[0]]
        inliers = np.array([[count for answer in answers for _, count in answer] for answers in rankings])
        return (all([[image for image, _ in answer] for answer in answers] == first for answers in rankings)
                and bool((np.ptp(inliers, axis=0) <= tolerance * inliers.max(axis=0)).all()))

    assert all(count > 20 for answers in all_of_them for answer in answers for _, count in answer)
    assert agree(exact, 0.01), "float rounding moves a match or two in hundreds"
    # That of bfloat16 moves more, on which may hang which of two photos of one thing comes first. How its sums are
    # rounded depends on the instructions: with AVX-512 BF16 561 inliers became 534, and where the
    # processor has none and torch computes it by float32 instructions, 365 became 334.
    assert agree([[sorted(answer) for answer in answers] for answers in all_of_them], 0.1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
def test_memory_does_not_grow_with_the_number_of_sizes(here: list[str]) -> None:
    """Of one model: what is kept of a size is bounded for each alike."""
    def run(runtime: Any, sizes: range) -> int:
        for side in sizes:
            runtime.run(np.zeros((1, 3, 16 + side, 216 - side), np.float32))
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for name in here:
        runtime = RUNTIMES[name](find_model(), "cpu")
        before = run(runtime, range(100))
        # OpenVINO grows by 57 MB where nothing bounds what it keeps, and by 23 as it is; what torch takes in bfloat16
        # depends on the processor.
        grown = run(runtime, range(100, 200)) - before
        assert grown < (60e6 if name.endswith("bf16") else 40e6), name


def test_a_batch_that_does_not_fit_into_memory_is_halved(attentive: Path, images: Any,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = RUNTIMES["torch"](find_model(attentive), "cpu")
    expected, compute, most = runtime.run(images), runtime._run, 1  # type: ignore[attr-defined]

    tried: list[int] = []

    def limited(batch: Any) -> Any:
        tried.append(len(batch))
        if len(batch) > most:
            import torch

            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(batch)

    monkeypatch.setattr(runtime, "_run", limited)
    found = runtime.run(images)
    for name in OUTPUTS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    assert tried == [3, 1, 2, 1, 1]
    tried.clear()
    runtime.run(images)
    assert tried == [1, 1, 1], "what did not fit is not tried again"
    most = 0
    with pytest.raises(OptionError, match="250 x 181 pixels does not fit into the memory of the dev"):
        runtime.run(images)
    monkeypatch.setattr(runtime, "_run", lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runtime.run(images)


def test_unknown_runtimes_and_devices() -> None:
    with pytest.raises(OptionError, match="'tflite'; known are auto, onnx, onnx-int8, openvino, "
                                          "openvino-bf16, torch, torch-bf16"):
        open_runtime(runtime="tflite")
    for name in ("onnx", "onnx-int8", "openvino", "openvino-bf16"):
        with pytest.raises(OptionError, match=f"'{name}' computes on the CPU only, not on 'cuda'; use the runtime 'to"):
            open_runtime(runtime=name, device="cuda")
    for device in ("quantum", "cuda:9999", "", "vulkan"):
        with pytest.raises(OptionError, match=f"torch cannot use the device {device!r}: ."):
            open_runtime(runtime="torch", device=device)


def test_the_default_runtime(attentive: Path, tmp_path: Path) -> None:
    fastest = "openvino-bf16" if computes_in_bfloat16() else IN_EIGHT_BITS
    assert open_runtime(attentive).name == choose_runtime(find_model(attentive)) == fastest
    assert choose_runtime(find_model(attentive), "cuda") == "torch"
    (tmp_path / "only.safetensors").write_bytes((attentive / "seeded.safetensors").read_bytes())
    assert open_runtime(tmp_path).name == "torch"
    with pytest.raises(ModelError, match=r"no \.onnx file .* delf export"):
        open_runtime(tmp_path, "onnx")
    with pytest.raises(ModelError, match=r"no -int8\.onnx file .* delf export .* --int8 PHOTOS"):
        open_runtime(tmp_path, "onnx-int8")


@pytest.mark.usefixtures("plain_processor")
def test_eight_bits_are_taken_where_they_are_of_the_model(attentive: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("seeded.onnx", "seeded-int8.onnx"):
        shutil.copy(attentive / name, tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert choose_runtime(find_model(tmp_path)) == "onnx-int8"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")  # where nothing has been measured
    assert choose_runtime(find_model(tmp_path)) == "onnx"
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert choose_runtime(find_model(tmp_path / "seeded-int8.onnx")) == "onnx"  # which is that file
    for other in (find_model("delf-r18-int8").require("onnx").read_bytes(), b"", b"no model", b"\x72\x05abc"):
        (tmp_path / "seeded-int8.onnx").write_bytes(other)
        assert choose_runtime(find_model(tmp_path)) == "onnx"


@pytest.mark.parametrize(("runtime", "cure"), [("onnx", r"delf export \S+/seeded\.safetensors"),
                                               ("onnx-int8", r"delf export \S+/seeded\.onnx --int8 PHOTOS")])
def test_files_of_two_models_are_told_apart(attentive: Path, tmp_path: Path, runtime: str, cure: str) -> None:
    """As a training leaves them that was killed when it had written one of them."""
    from delf.network.export import write_config

    for path in attentive.iterdir():
        shutil.copy(path, tmp_path)
    assert open_runtime(tmp_path, runtime).name == runtime
    write_config(tmp_path / "seeded.safetensors", replace(open_runtime(tmp_path, runtime).config, fingerprint="ff"))
    with pytest.raises(ModelError, match=f"is of another model than .* make it again with: {cure}"):
        open_runtime(tmp_path, runtime)
    (tmp_path / "seeded.safetensors").write_bytes(b"damaged")
    assert open_runtime(tmp_path, runtime).name == runtime, "it is not what is computed"


def test_a_model_in_single_precision_is_not_rounded(make_files: Any, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delf.runtimes._may_compute_in_bfloat16", lambda: True)
    monkeypatch.setattr("delf.runtimes.openvino.computes_in_bfloat16", lambda: True)
    for precision, fastest in (("half", "openvino-bf16"), ("single", "onnx")):
        folder = tmp_path / precision
        folder.mkdir()
        make_files(folder, precision=precision)
        shutil.copy(folder / "seeded.onnx", folder / "seeded-int8.onnx")
        assert choose_runtime(find_model(folder)) == fastest


@pytest.fixture
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that does not compute in bfloat16."""
    monkeypatch.setattr("delf.runtimes.openvino.computes_in_bfloat16", lambda: False)


def test_openvino_is_not_asked_where_the_system_knows(attentive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(path: Path, **options: str) -> str:
        assert path == Path("/proc/cpuinfo")
        return "flags\t\t: fpu sse avx2 avx512f avx512_vnni\n"

    def ask() -> bool:
        raise AssertionError("OpenVINO was asked")

    files = find_model(attentive)
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr("delf.runtimes.openvino.computes_in_bfloat16", ask)
    assert choose_runtime(files) == IN_EIGHT_BITS


@pytest.mark.usefixtures("plain_processor")
def test_bfloat16_where_the_processor_lacks_it(attentive: Path) -> None:
    assert choose_runtime(find_model(attentive)) == IN_EIGHT_BITS
    with pytest.raises(OptionError, match=r"does not compute in bfloat16 .* use the runtime 'openvino' or 'onnx'"):
        open_runtime(runtime="openvino-bf16")


@pytest.mark.usefixtures("plain_processor")
def test_openvino_where_it_alone_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda package: None if package == "onnxruntime" else package)
    assert choose_runtime(find_model()) == open_runtime().name == "openvino"


def test_openvino_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "delf.runtimes.openvino", raising=False)
    with pytest.raises(MissingDependencyError, match=r"the runtime 'openvino' needs .*'delf-retrieval\[openvino\]'"):
        open_runtime(runtime="openvino")


def test_a_model_finds_its_options(here: list[str], attentive: Path) -> None:
    for name in here:
        options = Delf.load(attentive, runtime=name).options
        assert (options.scales, options.score_threshold, options.dimensions) == ((0.5, 1.0), 0.25, 16)
        assert Delf.load(attentive, runtime=name, score_threshold=0.5).options.score_threshold == 0.5
    assert find_model(attentive).name == "seeded"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("delf.runtimes.torch", "delf.network.model"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingDependencyError, match=r"the runtime 'torch' needs .*'delf-retrieval\[torch\]'"):
        open_runtime(runtime="torch")
    assert open_runtime().name in (IN_EIGHT_BITS, "openvino-bf16")
