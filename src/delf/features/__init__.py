"""Image -> `Features`: pyramid, attention threshold, suppression, selection and reduction; other extractors by name."""

from delf.features.extractor import Delf
from delf.features.named import EXTRACTORS, load_named
from delf.features.options import ExtractionOptions
from delf.features.stored import load_shipped, load_stored, stored_model, stored_options
from delf.features.turning import extract_turned

__all__ = ["EXTRACTORS", "Delf", "ExtractionOptions", "extract_turned", "load_named", "load_shipped", "load_stored",
           "stored_model", "stored_options"]
