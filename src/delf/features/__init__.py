"""Image -> `Features`: pyramid, attention threshold, suppression, selection and reduction."""

from delf.features.extractor import Delf
from delf.features.options import ExtractionOptions
from delf.features.stored import load_stored, stored_model, stored_options
from delf.features.turning import extract_turned

__all__ = ["Delf", "ExtractionOptions", "extract_turned", "load_stored", "stored_model", "stored_options"]
