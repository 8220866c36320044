"""A model as a repository of the Hugging Face hub has it: a folder of its files, its card, and its configuration.

`Delf.from_pretrained("owner/name")` and `--model hub:owner/name` read such a repository.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from delf.errors import ModelError, OptionError, missing_dependency
from delf.files import replacing, write_atomically
from delf.models import METADATA_KEY, ModelConfig, ModelFiles, find_model
from delf.models.digest import read_metadata
from delf.models.metadata import safetensors_metadata
from delf.weights.card import MARK, model_card

CARD, CONFIG = "README.md", "config.json"
_SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "eight_bit": "-int8.onnx"}


def config_of(files: ModelFiles) -> ModelConfig:
    """What a model says of itself, from whichever file it has.

    Raises:
        ModelError: the file is damaged, or of no model of this package.
    """
    path = files.onnx or files.require("safetensors")
    text = (read_metadata(path) if files.onnx else safetensors_metadata(path)).get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path} is not of a delf model; make one with 'delf weights import'")
    return ModelConfig.from_json(text, path)


def write_hub_folder(model: str | Path, folder: Path, *, repository: str = "OWNER/NAME") -> list[Path]:
    """Write the files of a model as a repository of the hub has them; which those are.

    Args:
        model: as for `find_model`. folder: is made, if it is not there. repository: which the card names.

    Raises:
        ModelError: there is no such model, it is damaged, or the folder has a README.md or config.json of something
            else.
    """
    files = find_model(model)
    config = config_of(files)
    _require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, suffix in _SUFFIXES.items():
        source: Path | None = getattr(files, kind)
        if source is None:
            continue
        target = folder / f"{files.name}{suffix}"
        if not target.exists() or not target.samefile(source):
            with replacing(target, error=ModelError) as temporary:
                temporary.write_bytes(source.read_bytes())
                temporary.chmod(0o644)
        written.append(target)
    texts = {CARD: model_card(files, config, repository=repository),
             CONFIG: json.dumps(json.loads(config.to_json()), indent=2) + "\n"}
    for name, text in texts.items():
        write_atomically(folder / name, text.encode(), error=ModelError)
        written.append(folder / name)
    return written


def _require_ours(folder: Path) -> None:
    """Make sure that a card and a configuration may be written into a folder."""
    card = folder / CARD
    ours = card.is_file() and MARK.encode() in card.read_bytes()
    other = next((folder / name for name in (CARD, CONFIG) if (folder / name).exists()), None)
    if other is not None and not ours:
        raise ModelError(f"{other} is there already, and is not of a model: name a new folder, since a model for the "
                         f"hub has a {other.name} of its own")


def push_to_hub(model: str | Path, repository: str, *, private: bool = False, message: str = "A model of delf") -> str:
    """Put a model into a repository of the hub, which is made if it is not there; its address.

    Args:
        model: as for `find_model`. repository: `owner/name`. The hub's own log-in is used (`hf auth login`).

    Raises:
        OptionError: this is no name of a repository. MissingDependencyError: huggingface_hub is not installed.
        ModelError: there is no such model; or the hub refuses.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise OptionError(f"a repository of the hub is called OWNER/NAME, not {repository!r}")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise missing_dependency("huggingface_hub", "hub", "a model for the hub") from error
    with tempfile.TemporaryDirectory() as folder:
        write_hub_folder(model, Path(folder), repository=repository)
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except Exception as error:  # the hub client raises many unrelated classes
            raise ModelError(f"{repository!r} could not be written on the hub: {error}") from error
    return f"https://huggingface.co/{repository}"
