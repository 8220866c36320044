"""Configurations of the released models, and what becomes of their variables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from delf.errors import DelfError, ModelError
from delf.formats.protos import write_datum
from delf.models import ModelConfig
from delf.weights import read_tensorflow

# As the example of the reference has it, with PCA files of ours.
CONFIG = """
model_path: "parameters/delf_gld/model/"
image_scales: .25
image_scales: .7071
image_scales: 1.0
delf_local_config {
  use_pca: true
  # The layer is that of the released models.
  layer_name: "resnet_v1_50/block3"
  iou_threshold: 1.0
  max_feature_num: 1000
  score_threshold: 100.0
  pca_parameters {
    mean_path: "parameters/mean.datum"
    projection_matrix_path: "parameters/matrix.datum"
    pca_dim: 40
    use_whitening: false
  }
}
"""


class Variables:
    """Stands in for a bundle: each variable is there, with random numbers."""

    index = Path("variables.index")
    entries: ClassVar[dict[str, Any]] = {}
    asked: list[str]

    def __init__(self, folder: Path) -> None:
        self.asked = []
        Variables.last = self

    def read(self, name: str, shape: tuple[int, ...]) -> Any:
        assert name not in self.asked
        self.asked.append(name)
        values = np.random.default_rng(len(self.asked)).random(shape, np.float32)
        return -values if name == getattr(Variables, "negative", None) else values

    last: Variables


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with its PCA in a folder beside its own, and variables that are not read."""
    monkeypatch.setattr("delf.weights.tensorflow.Bundle", Variables)
    rng = np.random.default_rng(0)
    (tmp_path / "parameters").mkdir()
    (tmp_path / "configs").mkdir()
    write_datum(tmp_path / "parameters" / "mean.datum", rng.normal(size=1024))
    write_datum(tmp_path / "parameters" / "matrix.datum", rng.normal(size=(64, 1024)))
    write_datum(tmp_path / "parameters" / "variances.datum", rng.random((64, 1)) + 0.1)
    write_datum(tmp_path / "parameters" / "negative.datum", rng.normal(size=(64, 1)))
    (tmp_path / "configs" / "delf.pbtxt").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def imported(folder: Path, *changes: tuple[str, str], added: str = "") -> Any:
    text = CONFIG
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "configs" / "delf.pbtxt"
    path.write_text(text + added, encoding="utf-8")
    return read_tensorflow(folder / "model", path, "mine")


def test_what_a_configuration_becomes(folder: Path) -> None:
    made = imported(folder)
    assert made.config == ModelConfig(
        "mine", trunk="slim50", stride=32, attention=True, mean=(128.0,) * 3, std=(128.0,) * 3, padding="tensorflow",
        resize="tensorflow", precision="single", about="Imported from the TensorFlow model in the folder 'model'.",
        extraction={"scales": [0.25, 0.7071, 1.0], "max_image_size": None, "min_image_size": None, "max_features": 1000,
                    "score_threshold": 100.0, "suppression_iou": 1.0, "length_weight": 0.0, "texture": 0.0,
                    "border": 0.0, "whitening": False, "dimensions": 40})
    assert ModelConfig.from_json(made.config.to_json(), Path("m")) == made.config
    assert (made.pca.components.shape, made.pca.mean.shape) == ((64, 1024), (1024,))
    assert (made.pca.variances == 1).all()


def test_defaults_are_those_of_the_reference(folder: Path) -> None:
    extraction = imported(folder, ("  iou_threshold: 1.0\n  max_feature_num: 1000\n  score_threshold: 100.0\n", ""),
                          ("  use_pca: true\n", "")).config.extraction
    assert [extraction[name] for name in ("suppression_iou", "max_features", "score_threshold", "dimensions")] == [
        1.0, 1000, 100.0, 40]


def test_sizes_suppression_and_whitening(folder: Path) -> None:
    made = imported(folder, ("iou_threshold: 1.0", "iou_threshold: 0.7"),
                    ("use_whitening: false", 'use_whitening: true pca_variances_path: "parameters/variances.datum"'),
                    added="max_image_size: 800 min_image_size: 200")
    assert made.config.extraction["suppression_iou"] == 0.7 and made.config.extraction["whitening"] is True
    assert (made.config.extraction["max_image_size"], made.config.extraction["min_image_size"]) == (800, 200)
    assert made.pca.variances.shape == (64,) and made.pca.variances.min() >= 0.1


def test_without_a_pca_features_stay_as_they_are(folder: Path) -> None:
    made = imported(folder, ("use_pca: true", "use_pca: false"))
    assert made.config.extraction["dimensions"] == 1024
    assert np.array_equal(made.pca.components, np.eye(1024)) and not made.pca.mean.any()


@pytest.mark.parametrize(("change", "words"), [
    (("image_scales: .25\nimage_scales: .7071\nimage_scales: 1.0", ""), "it has no image_scales"),
    (("image_scales: .25", "image_scales: 0"), "scales must be numbers above 0"),
    (("resnet_v1_50/block3", "resnet_v1_101/block3"), "layer_name is 'resnet_v1_101/block3', and only"),
    (("max_feature_num: 1000", "max_feature_num: 0"), "max_features must be 1 or more"),
    (("pca_dim: 40", ""), "no pca_dim above 0"), (("pca_dim: 40", "pca_dim: 65"), "65 dimensions .* its PCA has 64"),
    (("use_pca: true", "use_square_images: true"), "use_square_images is true, and models of that kind"),
    (("use_pca: true", "use_resized_coordinates: true"), "use_resized_coordinates is true"),
    (("use_pca: true", "use_local_features: false"), "use_local_features is false"),
    (("use_pca: true", "quantum: 1"), "the field 'quantum', which is not known here"),
    (("use_pca: true", "use_pca: yes"), "'use_pca' is neither true nor false"),
    (('"parameters/mean.datum"', '"elsewhere/mean.datum"'), "'elsewhere/mean.datum', .* as mean_path, is neither"),
    (('"parameters/mean.datum"', '"' + "x" * 5000 + '"'), "as mean_path, is neither"),
    (('"parameters/mean.datum"', '"parameters/matrix.datum"'), r"shape \(64, 1024\), not the mean"),
    (('"parameters/matrix.datum"', '"parameters/mean.datum"'), r"shape \(1024,\), not components"),
    (('"parameters/matrix.datum"', '"configs/delf.pbtxt"'), "damaged or of another format"),
    (("use_whitening: false", "use_whitening: true"), "names no pca_variances_path"),
    (("use_whitening: false", 'use_whitening: true pca_variances_path: "parameters/negative.datum"'),
     "no variances above 0"),
    (("model_path:", "model_path"), "line 2: there is no colon"),
])
def test_what_a_configuration_may_not_say(folder: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(DelfError, match=words) as caught:
        imported(folder, change)
    assert ".pbtxt" in str(caught.value) or ".datum" in str(caught.value)
    assert any(cure in str(caught.value) for cure in ("get ", "Get ", "correct "))


def test_sizes_that_contradict_each_other(folder: Path) -> None:
    with pytest.raises(ModelError, match="min_image_size must be at most max_image_size, 100, not 200"):
        imported(folder, added="max_image_size: 100 min_image_size: 200")


def test_no_configuration(folder: Path) -> None:
    with pytest.raises(DelfError, match=r"There is no file '.*none\.pbtxt'"):
        read_tensorflow(folder / "model", folder / "none.pbtxt")
    (folder / "binary.pbtxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"binary\.pbtxt' cannot be used as a configuration of DELF"):
        read_tensorflow(folder / "model", folder / "binary.pbtxt")


def test_files_are_found_from_the_current_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path_factory.mktemp("deep") / "a" / "b" / "c" / "d" / "delf.pbtxt"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG, encoding="utf-8")
    with pytest.raises(ModelError, match="neither in its folder nor in the 3 above, nor in the current one"):
        read_tensorflow(folder / "model", config)
    monkeypatch.chdir(folder)
    assert read_tensorflow(folder / "model", config).config.name == "delf-gld"


def test_all_weights_of_the_network_are_asked_for(folder: Path) -> None:
    pytest.importorskip("torch")
    from delf.network.model import DelfModel

    made = imported(folder)
    model = DelfModel.from_arrays(made.config, made.arrays, made.pca)
    assert not model.training
    kernel = made.arrays["trunk.layer1.0.conv2.weight"]
    number = Variables.last.asked.index("resnet_v1_50/block1/unit_1/bottleneck_v1/conv2/weights") + 1
    stored = np.random.default_rng(number).random((3, 3, 64, 64), np.float32)
    assert kernel[5, 7, 1, 2] == stored[1, 2, 7, 5] == model.state_dict()["trunk.layer1.0.conv2.weight"][5, 7, 1, 2]
    assert len(Variables.last.asked) == 222  # as `variables.json` of the reference has


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    pytest.importorskip("torch")
    from delf.network.model import DelfModel

    made = imported(folder)
    arrays = {key: array for key, array in made.arrays.items() if key != "trunk.bn1.bias"}
    with pytest.raises(ModelError, match=r"not of a slim50 .* 1 are missing.* the first is 'trunk\.bn1\.bias'"):
        DelfModel.from_arrays(made.config, arrays)
    with pytest.raises(ModelError, match="not of a resnet50"):
        DelfModel.from_arrays(replace(made.config, trunk="resnet50", attention_hidden=100), made.arrays)


def test_variances_below_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Variables, "negative", "resnet_v1_50/conv1/BatchNorm/moving_variance", raising=False)
    with pytest.raises(ModelError, match=r"the variances of 'trunk\.bn1' in 'variables\.index' are below 0"):
        imported(folder)


def test_a_usual_model_says_nothing_of_conventions() -> None:
    """So that versions that know no others read its file."""
    told = json.loads(ModelConfig("x").to_json())
    assert not {"padding", "resize", "precision"} & set(told)
    assert ModelConfig.from_json(json.dumps(told), Path("m")) == ModelConfig("x")
    for name in ("padding", "resize", "precision"):
        with pytest.raises(ModelError, match=f"{name} is .* or .*, not 'other'"):
            replace(ModelConfig("x"), **{name: "other"})
