"""The card of a model: what it is, what it was made from, and how it is used, as Markdown."""

from __future__ import annotations

from delf.models import ModelConfig, ModelFiles
from delf.weights.checkpoint import sha256

MARK = "library_name: delf-retrieval"  # a line of each card

def model_card(files: ModelFiles, config: ModelConfig, *, repository: str = "NAME") -> str:
    """The card of a model. repository: what a reader loads it by.

    Raises:
        ModelError: a file cannot be read.
    """
    there = [path for path in (files.safetensors, files.onnx, files.eight_bit) if path is not None]
    lines = ["---", MARK, "pipeline_tag: image-feature-extraction",
             *([f"license_name: {config.licence}", "license: other"] if config.licence else []), "tags:",
             "- image-retrieval", "- delf", "---", "", f"# {config.name}", "",
             config.about or "Nobody has said what it was trained from.", "",
             f"Licence: {config.licence or 'not stated'}.", "", "| | |", "|---|---|",
             *(f"| {name} | {value} |" for name, value in _facts(config)), ""]
    lines += ["| file | bytes | SHA-256 |", "|---|---|---|",
              *(f"| `{path.name}` | {path.stat().st_size:,} | `{sha256(path)}` |" for path in there), ""]
    if config.source:
        lines += ["Imported from:", "", *(f"- `{name}`, SHA-256 `{digest}`" for name, digest in config.source.items()),
                  ""]
    lines += ["```python", "from delf import Delf, read_image", "", f'delf = Delf.from_pretrained("{repository}")',
              'features = delf.extract(read_image("photo.jpg"))', "```", ""]
    return "\n".join(lines)


def _facts(config: ModelConfig) -> list[tuple[str, str]]:
    extraction = dict(config.extraction)
    facts = [("trunk", config.trunk), ("stride", f"{config.stride} pixels"),
             ("local features", f"{config.channels} channels, scored by "
              f"{'trained attention' if config.attention else 'their length'}")]
    if "dimensions" in extraction:
        facts.append(("dimensions", str(extraction["dimensions"])))
    if "max_features" in extraction:
        facts.append(("features of a photo", f"at most {extraction['max_features']}"))
    facts += [("global descriptor", f"{config.pooling} of {'conv5' if config.conv5 else 'conv4'}, "
               f"{config.global_channels} channels"), ("fingerprint", f"`{config.fingerprint}`")]
    return facts
