"""Weights that others have published, read into models of this package, without the software that wrote them.

    read_weights(FILE or FOLDER) -> configuration, weights, PCA and whitening of the model

`delf weights import` makes the files of a model of that. A layout of checkpoints is one module and one line in
`LAYOUTS`; one suite of tests runs over every key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from delf.errors import ModelError, OptionError
from delf.weights import cirtorch, dirtorch, how, nashory, torchvision
from delf.weights.bundle import Bundle
from delf.weights.checkpoint import Checkpoint, sha256
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.tensorflow import read_tensorflow

__all__ = ["LAYOUTS", "Bundle", "Checkpoint", "ImportOptions", "ImportedModel", "Layout", "read_tensorflow",
           "read_weights"]


@dataclass(frozen=True)
class Layout:
    """A kind of checkpoints. about: whose. fits: whether one is of it. read: one into a model of a name."""

    about: str
    fits: Callable[[Checkpoint], bool]
    read: Callable[[Checkpoint, ImportOptions, str], ImportedModel]


LAYOUTS: dict[str, Layout] = {
    "how": Layout("HOW (gtolias/how)", how.fits, how.read),
    "cirtorch": Layout("cirtorch (filipradenovic/cnnimageretrieval-pytorch)", cirtorch.fits, cirtorch.read),
    "dir": Layout("DIR (naver/deep-image-retrieval)", dirtorch.fits, dirtorch.read),
    "nashory": Layout("DELF in PyTorch (nashory/DeLF-pytorch)", nashory.fits, nashory.read),
    "torchvision": Layout("ResNets of torchvision", torchvision.fits, torchvision.read),
}
"""Layouts of checkpoints by name, in the order in which they are tried. Folders are SavedModels of TensorFlow."""


def read_weights(source: Path, name: str, options: ImportOptions | None = None, *,
                 layout: str | None = None) -> ImportedModel:
    """A model of weights that others have published; the SHA-256 of each file goes into its configuration.

    Args:
        source: a file of torch (.pth, .pt, .pth.tar) or of safetensors, or the folder of a SavedModel.
        name: of the model. layout: a key of `LAYOUTS`; by default it is seen in the file.

    Raises:
        ModelError: something is missing, damaged, or not understood; the text names the file and the weights.
        OptionError: there is no such layout; or a SavedModel is given without its configuration.
    """
    options = options or ImportOptions()
    if layout is not None and layout not in LAYOUTS:
        raise OptionError(f"there is no layout {layout!r}; known are {', '.join(LAYOUTS)}")
    if source.is_dir():
        if options.config is None:
            raise OptionError(f"{str(source)!r} is the folder of a TensorFlow model, which is used with a "
                              "configuration: give its .pbtxt file with --config")
        imported = read_tensorflow(source, options.config, name, options.stride)
        bundle = Bundle(source)
        files = [options.config, bundle.index, *sorted(bundle.folder.glob("variables.data-*"))]
    else:
        checkpoint = Checkpoint(source)
        chosen = layout or next((key for key, one in LAYOUTS.items() if one.fits(checkpoint)), None)
        if chosen is None:
            raise ModelError(f"{str(source)!r} is of no layout that is known here ({', '.join(LAYOUTS)}): its weights "
                             f"begin with {', '.join(map(repr, list(checkpoint.shapes)[:3]))}")
        imported = LAYOUTS[chosen].read(checkpoint, options, name)
        files = [source, *([options.pca] if options.pca else [])]
    return replace(imported, config=replace(imported.config, source={path.name: sha256(path) for path in files}))
