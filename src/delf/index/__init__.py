"""Descriptors -> stored neighbours: one contract (`delf.index.contract`), several indexes."""

from delf.index.asmk import DETECT_TO_RETRIEVE, HOW, RADENOVIC_2018, Asmk, AsmkIndex, AsmkLists, AsmkOptions
from delf.index.contract import Index, Joined, Quantiser
from delf.index.exact import ExactIndex, Unquantised
from delf.index.hamming import Hamming, HammingIndex, HammingLists, HammingOptions
from delf.index.ivfpq import PAPER, IvfPqIndex, IvfPqOptions, IvfPqQuantiser
from delf.index.lopq import LOPQ_PAPER, LopqIndex, LopqOptions, LopqQuantiser
from delf.index.words import Codebook, CodebookOptions

INDEXES: dict[str, type[Unquantised] | type[IvfPqQuantiser] | type[LopqQuantiser]] = {
    "exact": Unquantised,
    "ivfpq": IvfPqQuantiser,
    "lopq": LopqQuantiser,
}
"""Each index by the name that options and collections use: the class whose `train` makes its quantiser."""

__all__ = [
    "DETECT_TO_RETRIEVE", "HOW", "INDEXES", "LOPQ_PAPER", "PAPER", "RADENOVIC_2018", "Asmk", "AsmkIndex", "AsmkLists",
    "AsmkOptions", "Codebook", "CodebookOptions", "ExactIndex", "Hamming", "HammingIndex", "HammingLists",
    "HammingOptions", "Index", "IvfPqIndex", "IvfPqOptions", "IvfPqQuantiser", "Joined", "LopqIndex", "LopqOptions",
    "LopqQuantiser", "Quantiser", "Unquantised",
]
