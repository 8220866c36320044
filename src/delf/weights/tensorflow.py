"""The released DELF models: a TensorFlow SavedModel of TF-Slim, and the configuration that it is used with.

Both come from `research/delf` of tensorflow/models: the network of `delf_v1.py` and `resnet_v1.py`, whose variables the
SavedModel holds, and a `DelfConfig` (`delf_config.proto`) as text, which names the scales, the limits of features and
of the image's size, and the files of the PCA. The graph in `saved_model.pb` is not read: the network is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.features import ExtractionOptions
from delf.formats.files import require_file
from delf.formats.protos import read_datum
from delf.models import PCA, TRUNKS, ModelConfig, TrunkLayout
from delf.types import FloatArray
from delf.weights.bundle import Bundle
from delf.weights.pbtxt import MOST_CHARACTERS, Message, parse

TRUNK = "slim50"
LAYER = "resnet_v1_50/block3"
_GREY = (128.0, 128.0, 128.0)  # pixels are (v - 128) / 128
_HIDDEN = 512  # channels of the attention
_FOLDERS_ABOVE = 3  # of the configuration, in which the files that it names are looked for
# Fields of the later reference, and the only value of each that is understood here.
_LATER = {"use_local_features": True, "use_global_features": False, "use_square_images": False,
          "is_tf2_exported": False, "use_resized_coordinates": False}

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """What the files of a model are made of (`DelfModel.from_arrays`). arrays: weights by their names there."""

    config: ModelConfig
    arrays: Mapping[str, FloatArray]
    pca: PCA


def read_tensorflow(saved_model: Path, config: Path, name: str = "delf-gld") -> ImportedModel:
    """A model of the variables in a SavedModel, extracting as a configuration says.

    Args:
        saved_model: its folder. config: the text of a `DelfConfig`; the files that it names are looked for in its
            folder, in those above, and in the current one.

    Raises:
        ModelError: something is missing, damaged, or not understood; the text names the file and the variable or field.
    """
    extraction, pca = _read_config(config)
    bundle = Bundle(saved_model)
    arrays = {ours: bundle.read(theirs, shape) for ours, theirs, shape in _variables()}
    for ours in [key for key, array in arrays.items() if key.endswith("running_var") and array.min() < 0]:
        raise ModelError(f"the variances of {ours.rsplit('.', 1)[0]!r} in {str(bundle.index)!r} are below 0: they are "
                         "damaged; get the files again")
    made = ModelConfig(name, trunk=TRUNK, stride=32, attention=True, attention_hidden=_HIDDEN, mean=_GREY, std=_GREY,
                       padding="tensorflow", resize="tensorflow", precision="single", extraction=extraction,
                       about=f"Imported from the TensorFlow model in the folder {saved_model.resolve().name!r}.")
    return ImportedModel(made, {key: _in_our_order(array) for key, array in arrays.items()}, pca)


def _in_our_order(array: FloatArray) -> FloatArray:
    """A kernel (height, width, inputs, outputs) as (outputs, inputs, height, width); others as they are."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array


def _variables() -> Iterator[tuple[str, str, Shape]]:
    """The name of each array in `DelfModel`, that of its variable, and the shape of the latter."""
    layout = TRUNKS[TRUNK]
    assert isinstance(layout, TrunkLayout), "it is a ResNet"
    yield from _normed("trunk", "conv1", "bn1", "resnet_v1_50/conv1", (7, 7, 3, layout.width))
    channels = layout.width
    for stage, units in enumerate(layout.units[:3]):
        width = layout.width * 2**stage
        for unit in range(units):
            ours = f"trunk.layer{stage + 1}.{unit}"
            theirs = f"resnet_v1_50/block{stage + 1}/unit_{unit + 1}/bottleneck_v1"
            if channels != 4 * width:
                yield from _normed(f"{ours}.downsample", "0", "1", f"{theirs}/shortcut", (1, 1, channels, 4 * width))
            yield from _normed(ours, "conv1", "bn1", f"{theirs}/conv1", (1, 1, channels, width))
            yield from _normed(ours, "conv2", "bn2", f"{theirs}/conv2", (3, 3, width, width))
            yield from _normed(ours, "conv3", "bn3", f"{theirs}/conv3", (1, 1, width, 4 * width))
            channels = 4 * width
    scope = "attention_block/attention/compute"
    yield from _normed("attention", "conv1", "bn1", f"{scope}/conv1", (1, 1, channels, _HIDDEN))
    yield "attention.conv2.weight", f"{scope}/conv2/weights", (1, 1, _HIDDEN, 1)
    yield "attention.conv2.bias", f"{scope}/conv2/biases", (1,)


def _normed(ours: str, conv: str, norm: str, theirs: str, shape: Shape) -> Iterator[tuple[str, str, Shape]]:
    """A convolution and the batch norm behind it."""
    yield f"{ours}.{conv}.weight", f"{theirs}/weights", shape
    for own, other in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                       ("running_var", "moving_variance")):
        yield f"{ours}.{norm}.{own}", f"{theirs}/BatchNorm/{other}", shape[3:]


def _read_config(path: Path) -> tuple[dict[str, Any], PCA]:
    """The options of extraction that a configuration says, and its PCA."""
    require_file(path)
    try:
        with path.open(encoding="utf-8") as stream:
            message = parse(stream.read(MOST_CHARACTERS + 1))
        extraction, parameters = _options(message)
        pca = _no_pca() if parameters is None else _read_pca(parameters, path, whitening=extraction["whitening"])
        _require_known(message, message.message("delf_local_config"), parameters or Message())
        ExtractionOptions(**extraction)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r} cannot be used as a configuration of DELF: {str(error)[:300]}. Correct it, or "
                         "get another one") from error
    if extraction["dimensions"] > len(pca.components):
        raise ModelError(f"{str(path)!r} asks for {extraction['dimensions']} dimensions (pca_dim), and its PCA has "
                         f"{len(pca.components)}; correct it, or get another one")
    return extraction, pca


def _require_known(*messages: Message) -> None:
    for message in messages:
        for name, only in _LATER.items():
            if message.flag(name, only) != only:
                raise ValueError(f"{name} is {str(not only).lower()}, and models of that kind are not read yet")
        if message.rest():
            raise ValueError(f"it has the field {message.rest()[0]!r}, which is not known here")


def _options(message: Message) -> tuple[dict[str, Any], Message | None]:
    """The options of extraction, and what is said of the PCA, if there is one."""
    local = message.message("delf_local_config")
    message.asked |= {"model_path", "delf_global_config"}  # where the model was, and what is not used
    layer = local.text("layer_name") or LAYER
    if layer != LAYER:
        raise ValueError(f"its layer_name is {layer!r}, and only {LAYER} is read yet")
    scales = message.numbers("image_scales")
    if not scales:
        raise ValueError("it has no image_scales")
    most, least = (message.whole(name, -1) for name in ("max_image_size", "min_image_size"))
    options: dict[str, Any] = {
        "scales": list(scales), "max_image_size": None if most < 0 else most,
        "min_image_size": None if least < 0 else least,
        "max_features": local.whole("max_feature_num", 1000), "score_threshold": local.number("score_threshold", 100.0),
        "suppression_iou": local.number("iou_threshold", 1.0), "length_weight": 0.0, "texture": 0.0, "border": 0.0}
    parameters = local.message("pca_parameters")
    if not local.flag("use_pca", True):
        return options | {"whitening": False, "dimensions": TRUNKS[TRUNK].channels}, None
    dimensions = parameters.whole("pca_dim", 0)
    if dimensions < 1:
        raise ValueError("it has no pca_dim above 0, which its PCA needs")
    return options | {"whitening": parameters.flag("use_whitening", False), "dimensions": dimensions}, parameters


def _no_pca() -> PCA:
    """What leaves the features as they are, where a configuration wants no PCA."""
    channels = TRUNKS[TRUNK].channels
    return PCA(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), np.ones(channels, np.float32))


def _read_pca(parameters: Message, config: Path, *, whitening: bool) -> PCA:
    """The PCA in the files that a configuration names. Variances are read where it whitens, and 1 elsewhere."""
    channels = TRUNKS[TRUNK].channels
    mean_file = _find(parameters.text("mean_path"), "mean_path", config)
    matrix_file = _find(parameters.text("projection_matrix_path"), "projection_matrix_path", config)
    mean, matrix = read_datum(mean_file).squeeze(), read_datum(matrix_file)
    if mean.shape != (channels,):
        raise ModelError(f"{str(mean_file)!r} holds an array of the shape {mean.shape}, not the mean of features of "
                         f"{channels} channels; get the right file")
    if matrix.ndim != 2 or matrix.shape[1] != channels:
        raise ModelError(f"{str(matrix_file)!r} holds an array of the shape {matrix.shape}, not components of "
                         f"{channels} channels, one a row; get the right file")
    variances, named = np.ones(len(matrix), np.float32), parameters.text("pca_variances_path")
    if whitening:
        path = _find(named, "pca_variances_path", config)
        variances = read_datum(path).ravel()
        kept = min(len(variances), len(matrix))
        matrix, variances = matrix[:kept], variances[:kept]
        if not kept or variances.min() <= 0:
            raise ModelError(f"{str(path)!r} holds no variances above 0, by which whitening divides; get the right "
                             "file")
    return PCA(mean, np.ascontiguousarray(matrix), variances)


def _find(name: str, what: str, config: Path) -> Path:
    """The file that a configuration names: relative to its folder, to one above, or to the current one."""
    if not name:
        raise ValueError(f"it names no {what}, which it needs")
    folders = [*config.resolve().parents[: 1 + _FOLDERS_ABOVE], Path.cwd()]
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):  # a name that cannot be
            if (folder / name).is_file():
                return folder / name
    raise ModelError(f"the file {name!r}, which {str(config)!r} names as {what}, is neither in its folder nor in the "
                     f"{_FOLDERS_ABOVE} above, nor in the current one; put it there, or correct the configuration")
