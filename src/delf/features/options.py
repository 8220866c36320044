"""How features are extracted: the options, and those that a model carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from delf.errors import ModelError, OptionError
from delf.features.pyramid import SMALLEST_SIDE
from delf.runtimes import Runtime
from delf.settings import Options

SCALES = (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)
MOST_SCALES = 32
MOST_DETAILS = 65536


@dataclass(frozen=True)
class ExtractionOptions(Options):
    """How features are extracted. A model may carry other values than these (`ModelConfig.extraction`).

    scales: factors of the pyramid, relative to the image after `max_image_size` and `min_image_size`.
    max_image_size: larger images are first reduced to this longest side, in pixels; None leaves them as they are.
    min_image_size: smaller images are first enlarged to this longest side, in pixels; None leaves them as they are.
    length_weight: w in the score of a feature, attention^(1 - w) * length^w, where its length is that before any
        normalisation. Attention says what is worth looking at, the length how much there is to see.
    score_threshold: features with a lower score are left out; it belongs to the model.
    max_features: how many features are kept, the best ones.
    suppression_iou: patches that overlap more than this with a better one are left out; 1.0 is off.
    dimensions: the number of dimensions of descriptors, at most as many as the model's PCA has.
    whitening: divide each component by its standard deviation.
    texture: cells with less texture around them, in grey levels per pixel (`delf.features.texture`), and cells of bare
        margins are left out; 0 keeps all cells.
    border: cells that are nearer to an edge of their level than this, in pixels of the level, are left out: beyond the
        edge the network sees zeros.
    details: how many RootSIFT features are kept in addition to those of the network (`delf.features.details`); None
        keeps none.
    """

    scales: tuple[float, ...] = SCALES
    max_image_size: int | None = 1024
    length_weight: float = 0.0
    score_threshold: float = 0.0
    max_features: int = 1000
    suppression_iou: float = 1.0
    dimensions: int = 128
    whitening: bool = False
    texture: float = 0.0
    border: float = 0.0
    min_image_size: int | None = None
    details: int | None = None

    def __post_init__(self) -> None:
        given: object = self.scales
        try:
            if isinstance(given, str):  # of which the letters would be taken
                raise TypeError
            object.__setattr__(self, "scales", tuple(self.scales))  # JSON and TOML have lists
        except TypeError as error:
            raise OptionError("scales must be numbers above 0 and at most 8, such as [0.25, 0.5], not "
                              f"{self.scales!r}") from error
        if not self.scales or any(not _is_number(scale) or not 0 < scale <= 8 for scale in self.scales):
            raise OptionError(f"scales must be numbers above 0 and at most 8, not {self.scales!r}")
        if len(self.scales) > MOST_SCALES:
            raise OptionError(f"scales are {MOST_SCALES} at most, not {len(self.scales)}")
        for name in ("max_features", "dimensions"):
            if not _is_whole(getattr(self, name), 1):
                raise OptionError(f"{name} must be 1 or more, and a whole number, not {getattr(self, name)!r}")
        if not _is_number(self.score_threshold) or not _is_number(self.suppression_iou) or self.suppression_iou < 0:
            raise OptionError(f"score_threshold must be a number and suppression_iou one from 0 to 1, not "
                              f"{self.score_threshold!r} and {self.suppression_iou!r}")
        if not _is_number(self.length_weight) or not 0 <= self.length_weight <= 1:
            raise OptionError(f"length_weight is from 0 to 1, not {self.length_weight!r}")
        for name in ("texture", "border"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise OptionError(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        for name in ("max_image_size", "min_image_size"):
            if getattr(self, name) is not None and not _is_whole(getattr(self, name), SMALLEST_SIDE):
                raise OptionError(f"{name} must be {SMALLEST_SIDE} or more, and a whole number, not "
                                  f"{getattr(self, name)!r}")
        if (self.min_image_size or 0) > (self.max_image_size or math.inf):
            raise OptionError(f"min_image_size must be at most max_image_size, {self.max_image_size}, not "
                              f"{self.min_image_size}")
        if self.details is not None and not (_is_whole(self.details, 1) and self.details <= MOST_DETAILS):
            raise OptionError(f"details must be 1 or more, at most {MOST_DETAILS}, and a whole number, or None, not "
                              f"{self.details!r}")
        if not isinstance(self.whitening, bool | np.bool_):
            raise OptionError(f"whitening is true or false, not {self.whitening!r}")


def _is_number(value: object) -> bool:
    return type(value) is not bool and isinstance(value, Real) and not math.isnan(value)


def _is_whole(value: object, least: int) -> bool:
    return type(value) is not bool and isinstance(value, Integral) and int(value) >= least


def default_options(runtime: Runtime) -> ExtractionOptions:
    """The options that a model carries, on top of the package's defaults."""
    try:
        return ExtractionOptions(**runtime.config.extraction)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the model {runtime.config.name!r} carries extraction options that make no sense ({error}); "
                         "get it again") from error
