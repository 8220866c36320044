"""The loop of training: schedules, resume after a kill, averages, several processes, and losses that are none."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from delf.cli.app import app
from delf.errors import DelfError, OptionError
from delf.models import find_model
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.training.calibration import read_reliability, write_reliability
from delf.training.engine import LoopOptions, Part, Progress, TrainingError, run_stage
from delf.training.logs import read_log
from delf.training.photos import LabelledPhoto, write_photos
from delf.training.plots import plot_reliability, plot_run

ACTOR = Path(__file__).parent / "actors.py"
STEPS = LoopOptions(steps=30, batch=8, average=0.9, save_every=5, validate_every=10, precision="float32")


class Line:
    """Learns y = 3 x + 1; a batch is its step, so that a batch seen twice or never would show."""

    name = "line"
    guessing = 0.0

    def __init__(self, stop: int | None = None, rate: float = 0.05) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(1, 1)
        self.stop, self.rate, self.seen = stop, rate, []

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self.rate}]

    def batch(self, step: int, part: Part) -> tuple[int, Tensor]:
        return step, torch.linspace(-1, 1, 8)[part.rank :: part.size, None] * (1 + step % 3)

    def losses(self, batch: tuple[int, Tensor], device: torch.device) -> dict[str, Tensor]:
        step, x = batch
        if step == self.stop:
            raise KeyboardInterrupt
        self.seen.append(step)
        return {"loss": (self.module(x) - 3 * x - 1).square().mean()}

    def validate(self) -> dict[str, float]:
        return {"error": abs(self.module.weight.item() - 3)}


def curve(folder: Path) -> list[tuple[int, str, str, str]]:
    return read_log(folder / "line.csv")


@pytest.mark.parametrize(("schedule", "expected"), [
    ("cosine", [1.0, 0.5, 0.0]), ("linear", [1.0, 0.5, 0.0]), ("constant", [1.0, 1.0, 1.0])])
def test_schedules(schedule: str, expected: list[float]) -> None:
    options = LoopOptions(steps=100, schedule=schedule)
    assert [options.rate(step) for step in (0, 50, 100)] == pytest.approx(expected)
    warm = LoopOptions(steps=100, schedule=schedule, warmup=9)
    assert [warm.rate(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_a_loop_learns(tmp_path: Path) -> None:
    stage, reports = Line(), []
    run_stage(stage, LoopOptions(steps=300, batch=8, optimizer="sgd", precision="float32"), tmp_path,
              report=reports.append)
    assert abs(stage.module.weight.item() - 3) < 0.05
    assert stage.seen == list(range(300))
    assert reports[-1].step == 300
    assert reports[-1].validated
    assert len([row for row in curve(tmp_path) if row[1] == "train"]) == 300
    assert not stage.module.training
    assert list((tmp_path / "tensorboard" / "line").glob("events.*"))


def test_tensorboard_shows_what_the_log_says(tmp_path: Path) -> None:
    """Also after an interruption: what was logged after the last checkpoint is logged again, and counts once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(KeyboardInterrupt):
        run_stage(Line(stop=17), STEPS, tmp_path)
    run_stage(Line(), STEPS, tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "line"))
    events.Reload()
    for kind, name in (("train", "loss"), ("validation", "error")):
        shown = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
        logged = [(step, float(value)) for step, *label, value in curve(tmp_path) if label == [kind, name]]
        assert [step for step, _ in shown] == [step for step, _ in logged]
        assert [value for _, value in shown] == pytest.approx([value for _, value in logged], rel=1e-5)


def test_checkpoints_and_what_they_refer_to_are_on_the_disk(tmp_path: Path, disk: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(Line(stop=15), STEPS, tmp_path)
    [checkpoint] = tmp_path.glob("*checkpoint*")
    assert disk.holds(checkpoint)
    assert disk.holds(tmp_path / "line.csv")


@pytest.mark.parametrize("content", ["step,kind,name,value\n1,train," + "a" * 200_000 + ",1\n", "\xff" * 9])
def test_a_log_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "line.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DelfError, match=r"line\.csv cannot be read as a log of training"):
        curve(tmp_path)


def test_an_interrupted_loop_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    whole, again = Line(), Line()
    run_stage(whole, STEPS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_stage(Line(stop=17), STEPS, tmp_path / "torn")
    run_stage(again, STEPS, tmp_path / "torn")
    assert again.seen == list(range(15, 30))
    assert curve(tmp_path / "torn") == curve(tmp_path / "whole")
    assert torch.equal(whole.module.weight, again.module.weight)
    finished = Line()
    run_stage(finished, STEPS, tmp_path / "torn")
    assert finished.seen == []
    assert torch.equal(whole.module.weight, finished.module.weight)


def test_a_killed_process_goes_on_to_the_same_curve(half_size: Path, tmp_path: Path) -> None:
    runpy.run_path(str(ACTOR))["classify"](half_size, tmp_path / "whole")
    torn = subprocess.Popen([sys.executable, ACTOR, "classify", half_size, tmp_path / "torn"])
    log = tmp_path / "torn" / "classification.csv"
    while torn.poll() is None and not (log.exists() and len(read_log(log)) > 8):
        time.sleep(0.01)
    torn.send_signal(signal.SIGKILL)
    torn.wait()
    runpy.run_path(str(ACTOR))["classify"](half_size, tmp_path / "torn")
    assert read_log(log) == read_log(tmp_path / "whole" / "classification.csv")


SHARED = """
[[stage]]
kind = "classification"
steps = 4
batch = 4
side = 72
crop = 64
optimizer = "sgd"
precision = "float32"

[finish]
photos = 2
dimensions = 8
"""


def test_two_processes_train_what_one_does(labelled: list[LabelledPhoto], packaged: DelfModel, tmp_path: Path) -> None:
    """The whole command, below torchrun, with the same batches."""
    (tmp_path / "recipe.toml").write_text(SHARED)
    write_photos(labelled, tmp_path / "photos.csv")
    command = ["train", tmp_path / "recipe.toml", "--data", tmp_path / "photos.csv", "--start",
               find_model().require("safetensors"), "-o"]
    alone = CliRunner().invoke(app, [*map(str, command), f"{tmp_path}/one.safetensors"])
    assert alone.exit_code == 0, alone.output
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node=2", "-m",
              "--"]  # else torchrun takes --start for one of its own options
    done = subprocess.run([sys.executable, *launch, "delf", *command, tmp_path / "two.safetensors"], check=True,
                          timeout=300, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)
    assert done.stdout == f"{tmp_path / 'two'}.safetensors and two.onnx\n", "one process speaks for all"
    assert done.stderr.count("finishing the model") == 1
    one, two = (torch.load(tmp_path / f"{name}.run/1-classification/classification.checkpoint",
                           weights_only=True)["module"] for name in ("one", "two"))
    start = {f"trunk.{key}": tensor for key, tensor in fold_batch_norm(packaged.trunk).state_dict().items()}
    moved = max(float((one[key] - start[key]).abs().max()) for key in start)
    apart = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert moved > 1e-3
    assert apart < 0.01 * moved, "rounding apart, which training amplifies"


def test_the_average_is_what_is_given(tmp_path: Path) -> None:
    plain, averaged = Line(), Line()
    run_stage(plain, LoopOptions(steps=20, batch=8, precision="float32"))
    run_stage(averaged, LoopOptions(steps=20, batch=8, precision="float32", average=0.9))
    assert not torch.equal(plain.module.weight, averaged.module.weight)
    state = Line()
    run_stage(state, LoopOptions(steps=20, batch=8, precision="float32", average=0.9), tmp_path)
    saved = torch.load(tmp_path / "line.checkpoint", weights_only=True)
    assert torch.equal(saved["module"]["weight"], plain.module.weight)
    assert torch.equal(saved["average"][0], averaged.module.weight)


def test_a_loss_that_is_not_a_number_keeps_the_checkpoint(tmp_path: Path) -> None:
    options = LoopOptions(steps=400, batch=8, optimizer="sgd", schedule="constant", clip_norm=1e30, save_every=1,
                          precision="float32")
    with pytest.raises(TrainingError, match=r"not a number in step \d+ \(learning rates 5e\+03\).*checkpoint .* is of "
                                            "before"):
        run_stage(Line(rate=5e3), options, tmp_path)
    saved = torch.load(tmp_path / "line.checkpoint", weights_only=True)
    assert torch.isfinite(saved["module"]["weight"]).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"\x80\x04."])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "line.checkpoint").write_bytes(content)
    with pytest.raises(TrainingError, match=r"line\.checkpoint is damaged.*delete it"):
        run_stage(Line(), STEPS, tmp_path)


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    run_stage(Line(), STEPS, tmp_path, identity="these photos")
    again = Line()
    run_stage(again, STEPS, tmp_path, identity="these photos")
    assert again.seen == []
    with pytest.raises(TrainingError, match=r"line\.checkpoint is of other options of the stage, of other photos"):
        run_stage(Line(), STEPS, tmp_path, identity="those photos")


def test_a_checkpoint_of_another_architecture_is_named(tmp_path: Path) -> None:
    run_stage(Line(), STEPS, tmp_path)
    wider = Line()
    wider.module = nn.Linear(2, 1)
    with pytest.raises(TrainingError, match=r"line\.checkpoint is .*of other photos or another trunk; delete it"):
        run_stage(wider, STEPS, tmp_path)


def test_batches_are_shared_equally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "own", classmethod(lambda kind: kind(0, 3)))
    with pytest.raises(OptionError, match="3 processes cannot share a batch of 8 equally; make it a multiple of 3"):
        run_stage(Line(), STEPS)


def test_a_checkpoint_of_another_length_is_named(tmp_path: Path) -> None:
    run_stage(Line(), STEPS, tmp_path)
    with pytest.raises(TrainingError, match="is of 30 steps of 8, not of 31 of 8"):
        run_stage(Line(), LoopOptions(steps=31, batch=8, average=0.9), tmp_path)


def test_a_checkpoint_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"module": Touch()}, tmp_path / "line.checkpoint")
    with pytest.raises(TrainingError, match="is damaged"):
        run_stage(Line(), STEPS, tmp_path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("wrong", [{"schedule": "step"}, {"optimizer": "adam"}, {"precision": "half"}, {"steps": 0},
                                   {"batch": 0}, {"clip_norm": 0.0}, {"average": 1.0}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        LoopOptions(**wrong)


def test_a_reliability_diagram_is_drawn(tmp_path: Path, disk: Any) -> None:
    assert plot_reliability(tmp_path) is None
    path = tmp_path / "reliability.csv"
    rows = [(0.05, 0.1, 200), (0.5, 0.4, 10), (0.95, 1.0, 300)]
    write_reliability(rows, path)
    assert read_reliability(path) == rows
    picture = plot_reliability(tmp_path)
    assert picture == tmp_path / "reliability.png"
    assert disk.holds(path)
    assert disk.holds(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    head = "probability,right,samples\n"
    for damage in ("", head, "step,kind,name\n1,2,3\n", f"{head}0.1,x,3\n", head + "1" * 200_000):
        path.write_text(damage)
        with pytest.raises(DelfError, match=r"reliability\.csv"):
            plot_reliability(tmp_path)


def test_curves_are_drawn(tmp_path: Path) -> None:
    run_stage(Line(), STEPS, tmp_path / "1-line")
    picture = plot_run(tmp_path)
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(Exception, match="holds no log"):
        plot_run(tmp_path / "1-line")
    write_reliability([(0.5, 0.4, 10)], tmp_path / "1-line" / "reliability.csv")
    assert plot_run(tmp_path / "1-line") is None, "a model was finished, and nothing trained"


def test_reports_are_means_and_come_in_order() -> None:
    reports: list[Progress] = []
    run_stage(Line(), LoopOptions(steps=40, batch=8, precision="float32", validate_every=20), report=reports.append)
    assert [report.step for report in reports if report.validated] == [20, 40]
    assert all(report.steps_per_second > 0 for report in reports)


@pytest.mark.parametrize(("guessing", "remarks"), [(1.0, 0), (1e-9, 1)])
def test_a_loss_that_stays_at_guessing_is_told(guessing: float, remarks: int) -> None:
    stage, reports = Line(), []
    stage.guessing = guessing
    options = LoopOptions(steps=210, batch=8, optimizer="sgd", precision="float32")
    run_stage(stage, options, report=reports.append)
    told = [report.remark for report in reports if report.remark]
    assert len(told) == remarks
    assert all("that of guessing" in sentence and "learning rates" in sentence for sentence in told)
