"""Where the files of a model are: of one that comes with the package, of a file, of a folder, or on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from delf.errors import ModelError, missing_dependency

DEFAULT_MODEL = "delf-r18"
PACKAGED = Path(__file__).parent
WORDS = ".words"  # how the name of a file of visual words ends
EIGHT_BIT = "-int8.onnx"  # how the name of the file ends that computes a model in 8 bits


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are; one of the first two is there. eight_bit: NAME-int8.onnx, the same in 8 bits."""

    name: str
    safetensors: Path | None
    onnx: Path | None
    eight_bit: Path | None = None

    @property
    def path(self) -> Path | None:
        """One of them."""
        return self.onnx or self.safetensors

    def require(self, kind: str) -> Path:
        """The path of the "safetensors", "onnx" or "eight_bit" file.

        Raises:
            ModelError: the model lacks it; the text says how to make it.
        """
        path: Path | None = getattr(self, kind)
        if path is None:
            ending, cure = {
                "onnx": (".onnx", f"make it with: delf export {self.path}"),
                "eight_bit": (EIGHT_BIT, f"make it with: delf export {self.path} --int8 PHOTOS"),
                "safetensors": (".safetensors", "use the runtime 'onnx', or get the .safetensors file of the model"),
            }[kind]
            raise ModelError(f"the model {self.name!r} has no {ending} file beside {self.path}; {cure}")
        return path


def find_model(model: str | Path = DEFAULT_MODEL) -> ModelFiles:
    """Find a model by packaged name, by file, by folder that holds one, or by `hub:owner/name`.

    Raises:
        ModelError: there is no such model; the text lists the packaged ones.
    """
    text = str(model)
    if text.startswith("hub:"):
        return _in_folder(_download(text.removeprefix("hub:")))
    try:
        path = Path(model).expanduser()
        if path.suffix in (".safetensors", ".onnx") and path.is_file():
            return _beside(path)
        if path.is_dir():
            return _in_folder(path)
    except (OSError, RuntimeError) as error:  # an overlong name, a folder that may not be read, an unknown ~user
        raise ModelError(f"the model {text!r} cannot be looked for ({error}); check the path") from error
    if text in _named(PACKAGED):
        return _beside(PACKAGED / f"{text}.onnx")
    raise ModelError(f"there is no model {text!r}: give a packaged name ({', '.join(packaged_models()) or 'none'}), "
                     "a .safetensors or .onnx file, a folder that holds one, or hub:OWNER/NAME")


def on_hub(model: str | Path) -> str | Path:
    """`hub:owner/name` for `owner/name`, unless there is such a path here; anything else as it is."""
    text = str(model)
    named = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) and not text.endswith((".safetensors", ".onnx"))
    return f"hub:{text}" if named and not Path(text).exists() else model


def packaged_models() -> list[str]:
    """Names of the models that come with the package. The 8-bit file of a model is no model of its own."""
    return _models_in(PACKAGED)


def packaged_words() -> list[Path]:
    """The visual words that come with the package."""
    return sorted(PACKAGED.glob(f"*{WORDS}"))


def _beside(path: Path) -> ModelFiles:
    pair = [path.with_suffix(suffix) for suffix in (".safetensors", ".onnx")]
    files = (*pair, path.with_name(f"{path.stem}{EIGHT_BIT}"))
    return ModelFiles(path.stem, *(file if file.is_file() else None for file in files))


def _in_folder(folder: Path) -> ModelFiles:
    stems = _models_in(folder)
    if len(stems) != 1:
        found = f"{len(stems)} models ({', '.join(stems)})" if stems else "no model"
        raise ModelError(f"the folder {folder} holds {found}; name one .safetensors or .onnx file")
    return _beside(folder / f"{stems[0]}.onnx")


def _models_in(folder: Path) -> list[str]:
    names = _named(folder)
    return sorted(names - {f"{name}{EIGHT_BIT}".removesuffix(".onnx") for name in names})


def _named(folder: Path) -> set[str]:
    """The names of models in a folder; of a file in 8 bits, too, by which it can be asked for."""
    return {path.stem for path in folder.iterdir() if path.suffix in (".safetensors", ".onnx")}


def _download(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_dependency("huggingface_hub", "hub", "a model from the hub") from error
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.safetensors", "*.onnx", "*.md"]))
    except Exception as error:  # the hub client raises many unrelated classes
        raise ModelError(f"could not get {repository!r} from the hub: {error}") from error
