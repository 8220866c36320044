"""Image -> `Features`: pyramid, attention threshold, suppression, selection and reduction."""

from delf.features.extractor import Delf, ExtractionOptions

__all__ = ["Delf", "ExtractionOptions"]
