"""Archives on the web: the pictures of IIIF manifests, versions 2 and 3 of the Presentation API, as photos.

    add_manifests(collection, ["https://.../manifest.json"]) -> report

    fetching        asks one server after the other, politely, and goes nowhere that it should not
    presentation    a manifest or a collection of manifests -> canvases, further manifests
    image_api       a picture -> the address of a copy of bounded size
    adding          canvases -> photos of a collection, each known by the addresses of its manifest and its canvas
"""

from delf.iiif.adding import add_manifests, is_address
from delf.iiif.fetching import IiifOptions
from delf.iiif.presentation import Canvas

__all__ = ["Canvas", "IiifOptions", "add_manifests", "is_address"]
