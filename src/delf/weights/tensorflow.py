"""DELF and DELG of TensorFlow: a SavedModel, and the configuration that it is used with.

Both come from `research/delf` of tensorflow/models. The SavedModel holds the variables of one of two networks: that of
TF-Slim (`delf_v1.py` and `resnet_v1.py`), or that of Keras (`delf.weights.keras`). A `DelfConfig` (`delf_config.proto`)
as text names the scales, the limits of features and of the image's size, and the files of the PCA. The graph in
`saved_model.pb` is not read: the networks are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.features import ExtractionOptions
from delf.formats.files import require_file
from delf.formats.protos import read_datum
from delf.models import PCA, ModelConfig
from delf.types import FloatArray
from delf.weights.bundle import Bundle
from delf.weights.imported import ImportedModel
from delf.weights.keras import KerasVariables, prefix_of
from delf.weights.pbtxt import MOST_CHARACTERS, Message, parse
from delf.weights.trunk import Shape, convolutions, no_pca

LAYERS = {"slim50": "resnet_v1_50/block3", "slim101": "resnet_v1_101/block3"}  # and `block3` of Keras
_GREY = (128.0, 128.0, 128.0)  # pixels are (v - 128) / 128
_HIDDEN = 512  # channels of the attention
_FOLDERS_ABOVE = 3  # of the configuration, in which the files that it names are looked for
# Fields of the later reference, and the only value of each that is understood here.
_LATER = {"use_local_features": True, "use_square_images": False, "use_resized_coordinates": False}
_CHANNELS = 1024  # of conv4 of a ResNet-50 or 101


@dataclass(frozen=True)
class _Said:
    """What a configuration says. extraction: options. layer: which it names. parameters: of the PCA. scales: those that
    the global descriptor is pooled from, None where there shall be none.
    """

    extraction: dict[str, Any]
    layer: str
    pca: PCA | None
    scales: tuple[float, ...] | None


def read_tensorflow(saved_model: Path, config: Path, name: str = "delf-gld", stride: int = 32) -> ImportedModel:
    """A model of the variables in a SavedModel, extracting as a configuration says.

    Args:
        saved_model: its folder. config: the text of a `DelfConfig`; the files that it names are looked for in its
            folder, in those above, and in the current one. stride: of the cells of a Keras model.

    Raises:
        ModelError: something is missing, damaged, or not understood; the text names the file and the variable or field.
    """
    said = _read_config(config)
    bundle = Bundle(saved_model)
    prefix = prefix_of(bundle)
    read = _read_slim(bundle) if prefix is None else _read_keras(bundle, prefix, said, config, stride)
    trunk = read.pop("trunk")
    if said.layer not in ("", LAYERS.get(trunk, "block3"), "block3" if prefix is not None else ""):
        raise ModelError(f"{str(config)!r} cannot be used as a configuration of DELF: its layer_name is "
                         f"{said.layer!r}, and only {LAYERS.get(trunk, 'block3')} is read yet. Correct it, "
                         "or get another one")
    if prefix is None and said.scales is not None:
        raise ModelError(f"{str(config)!r} cannot be used as a configuration of DELF: use_global_features is true, and "
                         f"the model in {str(saved_model)!r}, of TF-Slim, has none. Correct it, or get another one")
    arrays = read.pop("arrays")
    channels = read.get("projection") or _CHANNELS
    pca = said.pca or no_pca(channels)
    if len(pca.mean) != channels:
        raise ModelError(f"{str(config)!r} has a PCA of {len(pca.mean)} channels, and the features of the model have "
                         f"{channels}; correct it (use_pca: false), or get another one")
    extraction = said.extraction if said.pca else {**said.extraction, "dimensions": channels}
    made = ModelConfig(name, trunk=trunk, attention=True, attention_hidden=_HIDDEN, mean=_GREY, std=_GREY,
                       precision="single", extraction=extraction,
                       about=f"Imported from the TensorFlow model in the folder {saved_model.resolve().name!r}.",
                       **read)
    return ImportedModel(made, arrays, pca)


def _read_slim(bundle: Bundle) -> dict[str, Any]:
    """The arrays of a network of TF-Slim, and what of its configuration belongs to it."""
    trunk = "slim101" if "resnet_v1_101/conv1/weights" in bundle.entries else "slim50"
    arrays = {ours: bundle.read(theirs, shape) for ours, theirs, shape in _variables(trunk)}
    for ours in [key for key, array in arrays.items() if key.endswith("running_var") and array.min() < 0]:
        raise ModelError(f"the variances of {ours.rsplit('.', 1)[0]!r} in {str(bundle.index)!r} are below 0: they are "
                         "damaged; get the files again")
    return {"arrays": {key: _in_our_order(array) for key, array in arrays.items()}, "trunk": trunk, "stride": 32,
            "padding": "tensorflow", "resize": "tensorflow"}


def _read_keras(bundle: Bundle, prefix: str, said: _Said, config: Path, stride: int) -> dict[str, Any]:
    """The same of a network of Keras."""
    variables = KerasVariables(bundle, prefix)
    if said.scales is not None and not variables.embedding:
        raise ModelError(f"{str(config)!r} cannot be used as a configuration of DELF: use_global_features is true, and "
                         f"{str(bundle.index)!r} has no embedding_layer. Correct it, or get another one")
    conv5 = said.scales is not None
    return {"arrays": variables.arrays(conv5=conv5), "trunk": variables.trunk, "stride": stride, "padding": "keras",
            "resize": "bilinear", "conv5": conv5, "global_dimensions": variables.embedding if conv5 else 0,
            "global_scales": said.scales or (), "autoencoder": variables.autoencoder,
            "projection": variables.autoencoder}


def _in_our_order(array: FloatArray) -> FloatArray:
    """A kernel (height, width, inputs, outputs) as (outputs, inputs, height, width); others as they are."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array


def _variables(trunk: str) -> Iterator[tuple[str, str, Shape]]:
    """The name of each array in `DelfModel`, that of its variable, and the shape of the latter."""
    scope = LAYERS[trunk].removesuffix("/block3")
    for name, norm, (outputs, inputs, height, width) in convolutions(trunk):
        theirs, shape = f"{scope}/conv1", (height, width, inputs, outputs)
        if name != "conv1":
            stage, unit, which = name.removeprefix("layer").split(".")[:3]
            theirs = (f"{scope}/block{stage}/unit_{int(unit) + 1}/bottleneck_v1/"
                      f"{'shortcut' if which == 'downsample' else which}")
        yield from _normed(f"trunk.{name}.weight", f"trunk.{norm}", theirs, shape)
    scope = "attention_block/attention/compute"
    yield from _normed("attention.conv1.weight", "attention.bn1", f"{scope}/conv1", (1, 1, _CHANNELS, _HIDDEN))
    yield "attention.conv2.weight", f"{scope}/conv2/weights", (1, 1, _HIDDEN, 1)
    yield "attention.conv2.bias", f"{scope}/conv2/biases", (1,)


def _normed(conv: str, norm: str, theirs: str, shape: Shape) -> Iterator[tuple[str, str, Shape]]:
    """A convolution and the batch norm behind it."""
    yield conv, f"{theirs}/weights", shape
    for own, other in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                       ("running_var", "moving_variance")):
        yield f"{norm}.{own}", f"{theirs}/BatchNorm/{other}", shape[3:]


def _read_config(path: Path) -> _Said:
    """The options of extraction that a configuration says, and its PCA."""
    require_file(path)
    try:
        with path.open(encoding="utf-8") as stream:
            message = parse(stream.read(MOST_CHARACTERS + 1))
        local = message.message("delf_local_config")
        extraction, parameters = _options(message)
        scales = _global_scales(message, extraction["scales"])
        pca = None if parameters is None else _read_pca(parameters, path, whitening=extraction["whitening"])
        layer = local.text("layer_name")
        _require_known(message, local, parameters or Message())
        ExtractionOptions(**extraction)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error.strerror or error}); check its permissions") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r} cannot be used as a configuration of DELF: {str(error)[:300]}. Correct it, or "
                         "get another one") from error
    if pca is not None and extraction["dimensions"] > len(pca.components):
        raise ModelError(f"{str(path)!r} asks for {extraction['dimensions']} dimensions (pca_dim), and its PCA has "
                         f"{len(pca.components)}; correct it, or get another one")
    return _Said(extraction, layer, pca, scales)


def _global_scales(message: Message, scales: list[float]) -> tuple[float, ...] | None:
    """The scales from which the global descriptor is pooled; None if none is wanted."""
    if not message.flag("use_global_features", False):
        message.asked.add("delf_global_config")
        return None
    part = message.message("delf_global_config")
    part.asked |= {"model_path"}
    if part.flag("use_pca", True):
        raise ValueError("its delf_global_config has a PCA (use_pca), which is not read yet")
    places = [int(one) for one in part.numbers("image_scales_ind")]
    if any(not 0 <= place < len(scales) for place in places):
        raise ValueError(f"its image_scales_ind name others than its {len(scales)} image_scales")
    if part.rest():
        raise ValueError(f"it has the field {part.rest()[0]!r}, which is not known here")
    return tuple(scales[place] for place in places)


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
    message.asked |= {"model_path", "is_tf2_exported"}  # where the model was, and what its variables say as well
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
        return options | {"whitening": False, "dimensions": _CHANNELS}, None
    dimensions = parameters.whole("pca_dim", 0)
    if dimensions < 1:
        raise ValueError("it has no pca_dim above 0, which its PCA needs")
    return options | {"whitening": parameters.flag("use_whitening", False), "dimensions": dimensions}, parameters


def _read_pca(parameters: Message, config: Path, *, whitening: bool) -> PCA:
    """The PCA in the files that a configuration names. Variances are read where it whitens, and 1 elsewhere."""
    channels = _CHANNELS
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
