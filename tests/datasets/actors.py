"""A process that downloads, to be killed."""

from __future__ import annotations

import sys
from dataclasses import replace

from delf.datasets import DATASETS, DownloadOptions, get_dataset

if __name__ == "__main__":
    name, folder, mirror = sys.argv[1:]
    DATASETS[name] = replace(DATASETS[name], truth=None)
    get_dataset(name, folder, base_url=mirror, options=DownloadOptions(chunk=1 << 12))
