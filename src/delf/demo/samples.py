"""The photographs that scikit-image ships inside its package, and whose they are.

The files are read from the installed package's data folder and scikit-image is not imported, for its own functions
may download what they do not find. A photograph without a stated author or licence (the moon, the printed page) is
left out, and so are drawings. The files are the same, byte for byte, in scikit-image 0.24, 0.25 and 0.26.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from delf.errors import MissingDependencyError, missing_dependency
from delf.images import read_image
from delf.types import ImageArray


@dataclass(frozen=True)
class Sample:
    """A photograph that comes with scikit-image.

    file: its name in the data folder. title: what it shows. credit, licence: as the documentation of
    `skimage.data` states them. scene, shift: photographs of one scene from two places share its name, and adding
    `shift` (x, y) to a point of this one gives roughly the same point of the other.
    """

    file: str
    title: str
    credit: str
    licence: str
    scene: str
    shift: tuple[float, float] = (0, 0)


_MIDDLEBURY = ("Middlebury 2014 stereo benchmark: N. Nesic, P. Westling, X. Wang, Y. Kitajima, G. Krathwohl and "
               "D. Scharstein, Middlebury College")
_NOT_STATED = "published as a benchmark; scikit-image states no licence"

# The shift of the right motorcycle is the disparity of its middle; scikit-image's disparity map has 7 to 60 pixels.
SAMPLES = {
    "astronaut": Sample("astronaut.png", "astronaut Eileen Collins", "NASA", "public domain", "astronaut"),
    "brick": Sample("brick.png", "brick wall", "CC0Textures, Bricks25", "CC0", "brick"),
    "camera": Sample("camera.png", "man with a camera", "Lav Varshney", "CC0", "camera"),
    "cat": Sample("chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0", "cat"),
    "cell": Sample("cell.png", "cell in saline", "P. Müller and others, Optics Express 26(8), 2018", "CC0", "cell"),
    "clock": Sample("clock_motion.png", "clock, blurred by motion", "Stefan van der Walt", "public domain", "clock"),
    "coffee": Sample("coffee.png", "cup of coffee", "Rachel Michetti, Pikolo Espresso Bar", "CC0", "coffee"),
    "coins": Sample("coins.png", "Greek coins from Pompeii", "Brooklyn Museum Collection",
                    "no known copyright restrictions", "coins"),
    "galaxies": Sample("hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA, HubbleSite", "public domain",
                       "galaxies"),
    "grass": Sample("grass.png", "grass", "DeviantArt, linolafett: Grass 01", "CC0", "grass"),
    "gravel": Sample("gravel.png", "gravel", "CC0Textures, Gravel04", "CC0", "gravel"),
    "motorcycle-left": Sample("motorcycle_left.png", "motorcycle, left camera", _MIDDLEBURY, _NOT_STATED,
                              "motorcycle"),
    "motorcycle-right": Sample("motorcycle_right.png", "motorcycle, right camera", _MIDDLEBURY, _NOT_STATED,
                               "motorcycle", shift=(35, 0)),
    "retina": Sample("retina.jpg", "human retina", "Mikael Häggström", "CC0", "retina"),
    "rocket": Sample("rocket.jpg", "Falcon 9 before its launch", "SpaceX", "public domain", "rocket"),
    "tissue": Sample("ihc.png", "stained tissue under the microscope",
                     "Center for Microscopy And Molecular Imaging (CMMI)", "no known copyright restrictions",
                     "tissue"),
    "writing": Sample("text.png", "handwriting on squared paper", "Wikipedia, Corner.png", "public domain",
                      "writing"),
}


def read_sample(name: str) -> ImageArray:
    """The photograph of that key of `SAMPLES`: (H, W, 3) uint8 RGB; a grey one has three equal channels.

    Raises `MissingDependencyError` where scikit-image, or this file of it, is not installed.
    """
    path = data_folder() / SAMPLES[name].file
    if not path.is_file():
        raise MissingDependencyError(f"The demo needs {path}, which this scikit-image does not have: "
                                     "pip install --force-reinstall 'scikit-image>=0.24'")
    return read_image(path)


def data_folder() -> Path:
    """Where the installed scikit-image keeps its samples. Raises `MissingDependencyError`."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise missing_dependency("scikit-image", "demo", "The demo")
    return Path(package.submodule_search_locations[0]) / "data"
