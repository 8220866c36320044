"""The descriptions of the data sets, which are data."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from delf.datasets import DATASETS, Dataset, DatasetFile, find_dataset, list_datasets, total_size
from delf.errors import OptionError

NAMES = ["oxford5k", "paris6k", "flickr100k", "roxford5k", "rparis6k", "r1m", "gldv1", "gldv2", "landmarks", "sfm120k"]


def test_all_data_sets_of_the_field_are_there() -> None:
    assert [dataset.name for dataset in list_datasets()] == NAMES == list(DATASETS)
    assert find_dataset("ROxford5k") is DATASETS["roxford5k"]
    with pytest.raises(OptionError, match=r"no data set 'oxford'; known are oxford5k, paris6k"):
        find_dataset("oxford")


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=NAMES)
def test_a_description_is_whole(dataset: Dataset) -> None:
    assert all((dataset.title, dataset.terms, dataset.citation, dataset.photos))
    assert urlsplit(dataset.page).scheme in ("http", "https")
    assert bool(dataset.files) != bool(dataset.unavailable), "either it can be had, or it is said what to do"
    assert set(dataset.parts) == {part for file in dataset.files for part in file.parts}
    assert json.loads(json.dumps(dataset.to_json()))["files"] == json.loads(
        json.dumps([vars(file) for file in dataset.files]))


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=NAMES)
def test_files_are_well_formed(dataset: Dataset) -> None:
    names = [name for file in dataset.files for name in file.local_names]
    assert len(set(names)) == len(names), "each has a name of its own on disk"
    for file in dataset.files:
        assert file.source
        for url in (*file.urls, *filter(None, (file.md5_url,))):
            assert re.fullmatch(r"https?://[a-z0-9.-]+/[A-Za-z0-9~/._-]+", url)
        assert not PurePosixPath(file.to).is_absolute()
        assert ".." not in PurePosixPath(file.to).parts
        assert file.is_archive or len(file.urls) == 1
        assert file.md5 is None or re.fullmatch("[0-9a-f]{32}", file.md5)


def test_google_landmarks_by_part() -> None:
    dataset = DATASETS["gldv2"]
    assert len(dataset.choose(["train"])) == 505
    assert len(dataset.choose(["index", "test"])) == 100 + 4 + 20 + 3
    labels = dataset.choose(["labels"])
    assert len(labels) == 12
    assert not any(file.is_archive for file in labels)
    assert dataset.choose() == dataset.choose([]) == dataset.files
    assert total_size(dataset.choose(["index"])) == (85_000_000_000, 4)
    [last] = [file for file in dataset.files if file.name == "train/images_499.tar"]
    assert last.urls == ("https://s3.amazonaws.com/google-landmark/train/images_499.tar",)
    assert last.md5_url == "https://s3.amazonaws.com/google-landmark/md5sum/train/md5.images_499.txt"
    with pytest.raises(OptionError, match=r"no part 'query'; it has train, index, test, labels|it has labels"):
        dataset.choose(["query"])
    with pytest.raises(OptionError, match=r"'oxford5k' has no part 'index'; it has no parts"):
        DATASETS["oxford5k"].choose(["index"])


def test_published_numbers() -> None:
    truths = {name: (one.truth.images, one.truth.queries) for name, one in DATASETS.items() if one.truth}
    assert truths == {"oxford5k": (5063, 55), "paris6k": (6412 - 20, 55), "roxford5k": (4993, 70),
                      "rparis6k": (6322, 70)}
    assert len(set(DATASETS["paris6k"].corrupt)) == 20
    assert DATASETS["flickr100k"].images == 100_071
    assert [names.count for names in DATASETS["gldv2"].lists] == [4_132_914, 761_757, 117_577]


def test_volumes_are_one_file() -> None:
    [file] = DATASETS["flickr100k"].files
    assert len(file.urls) == 40
    assert (file.name, file.local_names[-1]) == ("oxc1_100k.part01.rar", "oxc1_100k.part40.rar")
    assert total_size([file]) == (0, 40)
    assert file.is_archive


def test_what_is_an_archive() -> None:
    assert DatasetFile(("http://a.example/b.tar.gz?x=1",), ".").is_archive
    assert not DatasetFile(("http://a.example/b.csv",), "b.csv").is_archive
