"""What a light install weighs: a wheel of this checkout in an empty environment, without any extra.

    python benchmarks/install.py [--extra openvino] [--keep FOLDER]

Prints the installed megabytes, package by package, the seconds that `import delf` and `delf --help` take, and those
from the start of the command to the first result of a search among a few photos.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN = 8
PHOTOS = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
for number in range(4):
    blocks = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(blocks).resize((480, 360), Image.Resampling.BICUBIC).save(Path(sys.argv[1]) / f"{number}.jpg")
"""


def main() -> None:
    """Install, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", default="", help="of the package, such as openvino")
    parser.add_argument("--keep", type=Path, help="where the environment stays; by default it goes")
    arguments = parser.parse_args()
    with nullcontext(str(arguments.keep)) if arguments.keep else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        packages = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
        wheel = next((folder / "wheels").glob("*.whl"))
        before = sizes(packages)
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}{f'[{arguments.extra}]' if arguments.extra else ''}")
        after = {name: size - before.get(name, 0) for name, size in sizes(packages).items()}
        print(f"| wheel | {wheel.stat().st_size / 2**20:.1f} MB |\n|---|---|")
        print(f"| installed | {sum(after.values()) / 2**20:.0f} MB |")
        for name, size in sorted(after.items(), key=lambda item: -item[1])[:SHOWN]:
            print(f"| of that {name} | {size / 2**20:.0f} MB |")
        starting(python, folder)


def starting(python: Path, folder: Path) -> None:
    """Seconds of whole processes; the first run of each, which compiles to bytecode, is not counted."""
    nothing = seconds([python, "-c", "pass"])
    print(f"| `import delf` | {seconds([python, '-c', 'import delf']) - nothing:.2f} s |")
    print(f"| `delf --help` | {seconds([python, '-m', 'delf', '--help']):.2f} s |")
    (folder / "photos").mkdir(exist_ok=True)
    run(python, "-c", PHOTOS, folder / "photos")
    photos, collection = folder / "photos", folder / "photos.delf"
    run(python, "-m", "delf", "index", photos, "-o", collection, "--quiet")
    search: list[str | Path] = [python, "-m", "delf", "search", collection, photos / "0.jpg"]
    print(f"| first result of `delf search`, 4 photos of 480 x 360 | {seconds(search):.2f} s |")


def sizes(packages: Path) -> dict[str, int]:
    """Bytes of each entry of site-packages."""
    return {entry.name: entry.stat().st_size if entry.is_file() else
            sum(file.stat().st_size for file in entry.rglob("*") if file.is_file()) for entry in packages.iterdir()}


def seconds(command: list[str | Path], rounds: int = 5) -> float:
    """The median of some runs."""
    spent = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(*command)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


def run(*command: str | Path) -> None:
    """A process that ends well, without what it prints."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=clean())


def output(*command: str | Path) -> str:
    """What a process prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean()).stdout.strip()


def clean() -> dict[str, str]:
    """The environment without what would let another package in."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


if __name__ == "__main__":
    main()
