"""How fast each stage is on this machine, beside a peer that is measured in the same run (`delf benchmark`)."""

from delf.benchmark.machine import describe
from delf.benchmark.measuring import Measurement
from delf.benchmark.results import changes, draw, read_results, table, to_json
from delf.benchmark.stages import STAGES, BenchmarkOptions, run_benchmark

__all__ = ["STAGES", "BenchmarkOptions", "Measurement", "changes", "describe", "draw", "read_results", "run_benchmark",
           "table", "to_json"]
