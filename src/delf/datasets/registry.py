"""The public data sets, as data: what they hold, where their files are, what becomes of them on disk.

Addresses and sums are those that the publishers, or else users of the data, name in their pages and download scripts
(`DatasetFile.source`). Where none is known, the field is None: nothing is guessed. Sizes are what others saw and never
refuse a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from delf.errors import DelfError, OptionError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".rar")


class DatasetError(DelfError):
    """A data set cannot be got, or is not what it should be."""


@dataclass(frozen=True)
class DatasetFile:
    """One file to download, or the volumes of one archive.

    urls: one, or all volumes in their order. to: the path of the file below the folder of the data set; of an archive,
    the folder that its content goes to ("." is the folder itself). parts: which choices include it; empty, all do.
    flatten: drop the folders inside of the archive. size: bytes, about, all volumes together; None where unknown.
    md5: published sum of the file, in hexadecimal; md5_url: where one is published beside the file. None: no such sum
    is known. source: who names the address.
    """

    urls: tuple[str, ...]
    to: str
    parts: tuple[str, ...] = ()
    flatten: bool = False
    size: int | None = None
    md5: str | None = None
    md5_url: str | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """By which it is known on disk: that of the first volume, below that of its part where parts have the same."""
        return self.local_names[0]

    @property
    def local_names(self) -> tuple[str, ...]:
        """The names of all volumes in a folder of archives."""
        prefix = f"{self.parts[0]}/" if self.parts and self.is_archive else ""
        return tuple(prefix + PurePosixPath(urlsplit(url).path).name for url in self.urls)

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return urlsplit(self.urls[0]).path.endswith(ARCHIVES)


@dataclass(frozen=True)
class Truth:
    """The ground truth of a benchmark folder, and what was published of it.

    file: its name. images: in the database; queries. classic: the folder of `*_query.txt` and the rest that it is made
    from; empty where it comes ready.
    """

    file: str
    images: int
    queries: int
    classic: str = ""


@dataclass(frozen=True)
class NameList:
    """A file that names all images of a folder.

    file: one path a line, or a CSV file with the column `id`, whose images are at `a/b/c/abc....jpg`. folder: where the
    images are. count: how many there should be.
    """

    file: str
    folder: str
    count: int
    part: str = ""


@dataclass(frozen=True)
class Dataset:
    """A public data set.

    title: in one line. page: where its publisher describes it. terms: its licence, or what is known of it. citation: of
    the publication. files: empty where nothing can be downloaded, and `unavailable` says what to do instead.
    parts: what can be chosen, with a line for each. photos: the folder of the images. images: how many were published;
    None where the truth or the lists say. corrupt: names of images that are damaged as published and belong to
    no list. remark: what users should know.
    """

    name: str
    title: str
    page: str
    terms: str
    citation: str
    files: tuple[DatasetFile, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    photos: str = "jpg"
    truth: Truth | None = None
    lists: tuple[NameList, ...] = ()
    images: int | None = None
    corrupt: tuple[str, ...] = ()
    unavailable: str = ""
    remark: str = ""

    def choose(self, parts: Sequence[str] | None = None) -> tuple[DatasetFile, ...]:
        """The files of some parts, or all.

        Raises:
            OptionError: there is no such part.
        """
        for part in parts or ():
            if part not in self.parts:
                known = f"it has {', '.join(self.parts)}" if self.parts else "it has no parts"
                raise OptionError(f"the data set {self.name!r} has no part {part!r}; {known}")
        return tuple(file for file in self.files
                     if not parts or not file.parts or any(part in file.parts for part in parts))

    def to_json(self) -> dict[str, Any]:
        """The object that `delf dataset list --json` prints: all fields, and what `total_size` says."""
        size, unknown = total_size(self.files)
        return {**asdict(self), "size": size, "files_of_unknown_size": unknown}


def total_size(files: Sequence[DatasetFile]) -> tuple[int, int]:
    """Bytes of the files whose size is known, about, and how many files are of unknown size."""
    return sum(file.size or 0 for file in files), sum(len(file.urls) for file in files if file.size is None)


def find_dataset(name: str) -> Dataset:
    """The data set of a name, in upper or lower case.

    Raises:
        OptionError: there is none.
    """
    if name.lower() not in DATASETS:
        raise OptionError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name.lower()]


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_CMP = "http://cmp.felk.cvut.cz"
_R1M = "http://ptak.felk.cvut.cz/revisitop/revisitop1m"
_GLD = "https://s3.amazonaws.com/google-landmark"
_REVISITOP = "filipradenovic/revisitop, python/download.py"
_VISSL = "facebookresearch/vissl, RETRIEVAL_DATASETS.md"
_CIRTORCH = "filipradenovic/cnnimageretrieval-pytorch, cirtorch/utils/download.py"
_VGG_TERMS = ("The photos are from Flickr: Flickr's terms of use hold, and the publisher's terms of access. The "
              "publisher may ask for a form to be filled in first, and blurred the faces in 2022.")
_GLD_TERMS = ("Annotations: CC BY 4.0, Google. Photos: CC BY without ND (train), CC0 or public domain (index, test), "
              "by their publisher's account, each to be verified; train_attribution.csv names authors and licences.")
_REVISITED = ("Radenovic, Iscen, Tolias, Avrithis, Chum: Revisiting Oxford and Paris: Large-Scale Image Retrieval "
              "Benchmarking. CVPR 2018")
_PHILBIN_OXFORD = ("Philbin, Chum, Isard, Sivic, Zisserman: Object retrieval with large vocabularies and fast spatial "
                   "matching. CVPR 2007")
_PHILBIN_PARIS = ("Philbin, Chum, Isard, Sivic, Zisserman: Lost in Quantization: Improving Particular Object Retrieval "
                  "in Large Scale Image Databases. CVPR 2008")

# The publisher's list, parisbuildings/corrupt.txt: in the place of each photo stands the page of a web server.
PARIS_CORRUPT = (
    "paris_louvre_000136", "paris_louvre_000146", "paris_moulinrouge_000422", "paris_museedorsay_001059",
    "paris_notredame_000188", "paris_pantheon_000284", "paris_pantheon_000960", "paris_pantheon_000974",
    "paris_pompidou_000195", "paris_pompidou_000196", "paris_pompidou_000201", "paris_pompidou_000467",
    "paris_pompidou_000640", "paris_sacrecoeur_000299", "paris_sacrecoeur_000330", "paris_sacrecoeur_000353",
    "paris_triomphe_000662", "paris_triomphe_000833", "paris_triomphe_000863", "paris_triomphe_000867",
)

_OXFORD_PHOTOS = DatasetFile((f"{_VGG}/oxbuildings/oxbuild_images-v1.tgz",), "jpg", flatten=True, size=1_940_000_000,
                             source=_REVISITOP)
_PARIS_PHOTOS = (DatasetFile((f"{_VGG}/parisbuildings/paris_1-v1.tgz",), "jpg", flatten=True, size=1_270_000_000,
                             source=_REVISITOP),
                 DatasetFile((f"{_VGG}/parisbuildings/paris_2-v1.tgz",), "jpg", flatten=True, source=_REVISITOP))


def _landmark_tars(part: str, count: int, size: int) -> tuple[DatasetFile, ...]:
    return tuple(DatasetFile((f"{_GLD}/{part}/images_{number:03d}.tar",), part, (part,), size=size,
                             md5_url=f"{_GLD}/md5sum/{part}/md5.images_{number:03d}.txt",
                             source="cvdfoundation/google-landmark, README.md") for number in range(count))


def _landmark_tables(folder: str, parts: tuple[str, ...], *names: str) -> tuple[DatasetFile, ...]:
    return tuple(DatasetFile((f"{_GLD}/{folder}/{name}",), name, parts,
                             source="cvdfoundation/google-landmark, README.md") for name in names)


DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (
    Dataset(
        "oxford5k", "Oxford Buildings: 5,063 photos, 55 queries, classic ground truth (ok, junk)",
        "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/", _VGG_TERMS, _PHILBIN_OXFORD,
        (_OXFORD_PHOTOS, DatasetFile((f"{_VGG}/oxbuildings/gt_files_170407.tgz",), "groundtruth", flatten=True,
                                     source=_VISSL)),
        truth=Truth("gnd.json", 5063, 55, classic="groundtruth")),
    Dataset(
        "paris6k", "Paris: 6,392 usable photos of 6,412, 55 queries, classic ground truth (ok, junk)",
        "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/", _VGG_TERMS, _PHILBIN_PARIS,
        (*_PARIS_PHOTOS, DatasetFile((f"{_VGG}/parisbuildings/paris_120310.tgz",), "groundtruth", flatten=True,
                                     source=_VISSL)),
        truth=Truth("gnd.json", 6392, 55, classic="groundtruth"), corrupt=PARIS_CORRUPT,
        remark="20 of the photos are damaged as published and are left out of the database, as is usual."),
    Dataset(
        "flickr100k", "Flickr 100k: distractors for Oxford 105k and Paris 106k",
        "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/flickr100k.html", _VGG_TERMS, _PHILBIN_OXFORD,
        (DatasetFile(tuple(f"{_VGG}/oxbuildings/ox100k/oxc1_100k.part{number:02d}.rar" for number in range(1, 41)),
                     "jpg", source="download scripts of several users"),),
        images=100_071, remark="An archive of RAR volumes: unpacking it needs unrar or 7z."),
    Dataset(
        "roxford5k", "Revisited Oxford: 4,993 photos, 70 queries, ground truth easy, hard, junk",
        "http://cmp.felk.cvut.cz/revisitop/", _VGG_TERMS, _REVISITED,
        (_OXFORD_PHOTOS, DatasetFile((f"{_CMP}/revisitop/data/datasets/roxford5k/gnd_roxford5k.pkl",),
                                     "gnd_roxford5k.pkl", source=_REVISITOP)),
        truth=Truth("gnd_roxford5k.pkl", 4993, 70)),
    Dataset(
        "rparis6k", "Revisited Paris: 6,322 photos, 70 queries, ground truth easy, hard, junk",
        "http://cmp.felk.cvut.cz/revisitop/", _VGG_TERMS, _REVISITED,
        (*_PARIS_PHOTOS, DatasetFile((f"{_CMP}/revisitop/data/datasets/rparis6k/gnd_rparis6k.pkl",),
                                     "gnd_rparis6k.pkl", source=_REVISITOP)),
        truth=Truth("gnd_rparis6k.pkl", 6322, 70), corrupt=PARIS_CORRUPT),
    Dataset(
        "r1m", "R1M: 1,001,001 distractors for the revisited benchmarks",
        "http://cmp.felk.cvut.cz/revisitop/", "The photos are from Flickr: Flickr's terms of use hold; no licence of "
        "the publisher is known.", _REVISITED,
        (*(DatasetFile((f"{_R1M}/jpg/revisitop1m.{number}.tar.gz",), "jpg", source=_REVISITOP)
           for number in range(1, 101)),
         DatasetFile((f"{_R1M}/revisitop1m.txt",), "revisitop1m.txt", source=_REVISITOP)),
        lists=(NameList("revisitop1m.txt", "jpg", 1_001_001),)),
    Dataset(
        "gldv1", "Google Landmarks v1: 1.06 million photos of 12,894 landmarks, 111,036 queries; lists of addresses",
        "https://www.kaggle.com/google/google-landmarks-dataset",
        "The photos belong to their authors; the terms of the lists were not found.",
        "Noh, Araujo, Sim, Weyand, Han: Large-Scale Image Retrieval with Attentive Deep Local Features. ICCV 2017",
        photos=".", unavailable="it was published as lists of addresses, its publisher says that it is no longer "
        "available, and the ground truth by GPS was never released: use gldv2, or put a copy that you have into the "
        "folder and train on it with a CSV file of the columns file and class"),
    Dataset(
        "gldv2", "Google Landmarks v2: 4,132,914 training photos, 761,757 of the index, 117,577 queries",
        "https://github.com/cvdfoundation/google-landmark", _GLD_TERMS,
        "Weyand, Araujo, Cao, Sim: Google Landmarks Dataset v2 - A Large-Scale Benchmark for Instance-Level "
        "Recognition and Retrieval. CVPR 2020; train_clean.csv: Yokoo, Ozaki, "
        "Simo-Serra, Iizuka: Two-stage Discriminative Re-ranking for Large-scale Landmark Retrieval. CVPRW 2020",
        (*_landmark_tables("metadata", ("train", "labels"), "train.csv", "train_clean.csv", "train_attribution.csv",
                           "train_label_to_category.csv", "train_label_to_hierarchical.csv"),
         *_landmark_tables("metadata", ("index", "labels"), "index.csv", "index_image_to_landmark.csv",
                           "index_label_to_category.csv", "index_label_to_hierarchical.csv"),
         *_landmark_tables("metadata", ("test", "labels"), "test.csv"),
         *_landmark_tables("ground_truth", ("test", "labels"), "recognition_solution_v2.1.csv",
                           "retrieval_solution_v2.1.csv"),
         *_landmark_tars("test", 20, 500_000_000), *_landmark_tars("index", 100, 850_000_000),
         *_landmark_tars("train", 500, 1_000_000_000)),
        parts={"labels": "all CSV files, no photos: labels, train_clean.csv, solutions",
               "test": "the queries: 20 archives of about 0.5 GB", "index": "the database: 100 of about 0.85 GB",
               "train": "the training photos: 500 of about 1 GB"},
        photos=".", lists=(NameList("train.csv", "train", 4_132_914, "train"),
                           NameList("index.csv", "index", 761_757, "index"),
                           NameList("test.csv", "test", 117_577, "test")),
        remark="train_clean.csv is the cleaned list, 1,580,470 photos of 81,313 landmarks. The landmark numbers of "
               "index and train are different."),
    Dataset(
        "landmarks", "Landmarks, full and clean, of the authors of DIR: what the paper's models were fine-tuned on",
        "https://europe.naverlabs.com/Research/Computer-Vision/Learning-Visual-Representations/Deep-Image-Retrieval/",
        "The lists are the authors'; the photos belong to theirs and were never distributed.",
        "Babenko, Slesarev, Chigorin, Lempitsky: Neural Codes for Image Retrieval. ECCV 2014 (full); Gordo, Almazan, "
        "Revaud, Larlus: End-to-end Learning of Deep Visual Representations for Image Retrieval. IJCV 2017 (clean)",
        photos=".", unavailable="it is lists of addresses (annotation_clean_train.txt, annotation_full_train.txt and "
        "those of val, one address and label a line) of which many no longer answer; the authors offered the lists at "
        "http://download.europe.naverlabs.com/Computer-Vision-CodeandModels/ and advise to ask the authors of Neural "
        "Codes for the photos. Put what you have into one folder for each landmark, or a CSV file with the columns "
        "file and class, which delf train takes; or use gldv2 with train_clean.csv"),
    Dataset(
        "sfm120k", "SfM-120k: training photos with 3D models, for descriptors and codebooks",
        "http://cmp.felk.cvut.cz/cnnimageretrieval/", "The photos are from Flickr: Flickr's terms of use hold; no "
        "licence of the publisher is known.", "Radenovic, Tolias, Chum: Fine-tuning CNN Image Retrieval with No Human "
        "Annotation. TPAMI 2018",
        (DatasetFile((f"{_CMP}/cnnimageretrieval/data/train/ims/ims.tar.gz",), "ims", source=_CIRTORCH),
         *(DatasetFile((f"{_CMP}/cnnimageretrieval/data/train/dbs/{name}.pkl",), f"{name}.pkl", source=_CIRTORCH)
           for name in ("retrieval-SfM-120k", "retrieval-SfM-120k-whiten", "retrieval-SfM-30k-whiten"))),
        photos="ims", remark="The photos have no suffix (ims/ab/cd/ef/NAME). The pickles hold tuples and are not read "
                             "by delf."),
)}
