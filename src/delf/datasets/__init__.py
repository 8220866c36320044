"""Public data sets: what they are, getting them, checking them.

    list_datasets() -> DATASETS
    get_dataset(name, folder) -> downloads, unpacks, writes the ground truth in the form that `delf evaluate` reads
    check_dataset(name, folder) -> what is there and what is missing, against the published numbers
"""

from delf.datasets.checking import DatasetCheck, check_dataset
from delf.datasets.classic import read_classic, write_ground_truth
from delf.datasets.download import DownloadOptions, download
from delf.datasets.getting import Fetched, Got, get_dataset
from delf.datasets.registry import DATASETS, Dataset, DatasetError, DatasetFile, find_dataset, total_size
from delf.datasets.unpacking import UnpackLimits, unpack

__all__ = ["DATASETS", "Dataset", "DatasetCheck", "DatasetError", "DatasetFile", "DownloadOptions", "Fetched", "Got",
           "UnpackLimits", "check_dataset", "download", "find_dataset", "get_dataset", "list_datasets", "read_classic",
           "total_size", "unpack", "write_ground_truth"]


def list_datasets() -> tuple[Dataset, ...]:
    """All data sets, in the order of the documentation."""
    return tuple(DATASETS.values())
