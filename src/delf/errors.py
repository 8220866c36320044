"""What can go wrong, in words.

Every error that a user can cause is a `DelfError`, whose text is a sentence that names the file or the option and says
what to do. The command line prints that sentence and exits with 1; a library user catches the class.
"""


class DelfError(Exception):
    """An error with a sentence for the user. The root of all errors that the package raises on purpose."""


class ImageError(DelfError):
    """A file or a buffer is not an image that can be read."""


class ModelError(DelfError):
    """A model is unknown, damaged, or of another kind than is needed."""


class CollectionError(DelfError):
    """A collection is missing, damaged, foreign, or made with other options."""


class BeingWrittenError(CollectionError):
    """Somebody else is writing the collection: it can be written when that has ended."""


class MissingImageError(CollectionError, KeyError):
    """A collection has no such image."""

    __str__ = Exception.__str__  # that of `KeyError` puts the sentence in quotes


class EvaluationError(DelfError):
    """A ground truth or a ranking is malformed, or the two do not belong together."""


class OptionError(DelfError, ValueError):
    """An option has a value that makes no sense."""


class MissingDependencyError(DelfError, ImportError):
    """An optional package is not installed; the text says which extra brings it."""


def missing_dependency(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for an optional `package` that is not there, naming the `extra` that installs it."""
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is not installed: "
        f"pip install 'delf-retrieval[{extra}]'"
    )
