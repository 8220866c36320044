"""Weights that others have published, read into models of this package, without the software that wrote them.

    read_tensorflow(SAVED_MODEL, CONFIG.pbtxt) -> configuration, weights and PCA of the model

`delf weights import` makes the files of a model of that.
"""

from delf.weights.bundle import Bundle
from delf.weights.tensorflow import ImportedModel, read_tensorflow

__all__ = ["Bundle", "ImportedModel", "read_tensorflow"]
