"""The loop that every stage of training shares: schedule, clipping, averaging, logs, checkpoints and exact resume.

A stage says what a batch is and what its loss is. Batches are a function of the seed and the number of the step, and
so training that was interrupted goes on with just the batches that it would have seen; and of the part of the batch
that a process computes, so that several processes (`torchrun`) train what one would.
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, distributed, nn

from delf.errors import DelfError, OptionError
from delf.files import replacing
from delf.network.saving import saved
from delf.settings import Options
from delf.training.logs import MetricLog

Batch = TypeVar("Batch")
SCHEDULES = ("cosine", "linear", "constant")
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("auto", "bfloat16", "float32")
AHEAD = 4  # batches that are prepared while one is computed
LEARNT_AFTER = 200  # steps, by when the loss must have left that of guessing


@dataclass(frozen=True)
class LoopOptions(Options):
    """How a stage is trained, whatever it is.

    steps: mini-batches in all. batch: items of a mini-batch, over all processes.
    schedule: of the learning rates, from their full value to 0 ("cosine", "linear") or not at all ("constant");
        warmup: steps in which they rise from 0.
    optimizer: "adamw", or "sgd" with Nesterov momentum 0.9. clip_norm: of all gradients together.
    average: decay of the moving average of the weights, which is what the stage gives; 0 is off.
    precision: of the forward and backward pass; "auto" is bfloat16 where the processor or the GPU computes in it.
    validate_every, save_every: steps; 0 is at the end only. seed: of everything that is random.
    """

    steps: int = 1000
    batch: int = 32
    schedule: str = "cosine"
    warmup: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    average: float = 0.0
    precision: str = "auto"
    validate_every: int = 0
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.steps < 1 or self.batch < 1 or not self.clip_norm > 0 or not 0 <= self.average < 1:
            raise OptionError("steps and batch are 1 or more, clip_norm is above 0 and average from 0 to below 1, not "
                              f"{self.steps!r}, {self.batch!r}, {self.clip_norm!r} and {self.average!r}")

    def rate(self, step: int) -> float:
        """The factor on the learning rates in a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[self.schedule]


@dataclass(frozen=True)
class Part:
    """What one process computes of each mini-batch: items `rank`, `rank + size`, and so on."""

    rank: int = 0
    size: int = 1

    @classmethod
    def own(cls) -> Part:
        """That of this process, where `torch.distributed` is at work."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()


class Stage(Protocol[Batch]):
    """What is trained, and how well it does.

    name: of its checkpoint and logs. module: the weights that are trained and saved; its buffers are saved too.
    guessing: the loss of one who guesses, ln(number of classes); 0 where there are no classes.
    """

    name: str
    module: nn.Module
    guessing: float

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups: `params` and `lr` of each."""

    def batch(self, step: int, part: Part) -> Batch:
        """The mini-batch of a step, on the CPU. Called from other threads, ahead of time."""

    def losses(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """`loss`, which is minimised, and whatever else is to be logged."""

    def validate(self) -> dict[str, float]:
        """How well the module does on what it is not trained on; empty where nothing is measured."""


@dataclass(frozen=True)
class Progress:
    """Where a stage is. values: means since the last report, or what validation gave. remark: what seems wrong."""

    stage: str
    step: int
    steps: int
    values: Mapping[str, float]
    steps_per_second: float
    validated: bool = False
    remark: str = ""


class TrainingError(DelfError):
    """Training cannot go on: the loss is not a number, or a checkpoint is of something else."""


def run_stage(stage: Stage[Batch], options: LoopOptions, folder: Path | None = None, *, device: str = "cpu",
              identity: str = "", report: Callable[[Progress], None] = lambda _: None) -> None:
    """Train `stage.module` in place, and leave it in evaluation mode.

    Args:
        folder: of the checkpoint, `NAME.checkpoint`, and the log, `NAME.csv` (and TensorBoard's, where it is
            installed). Where there is a checkpoint, training goes on from it.
        identity: of what the stage is and learns from; a checkpoint of another one is refused.
        report: is told about every second, and after each validation.

    Raises:
        TrainingError: the loss is not a number, or the checkpoint does not fit.
        OptionError: the processes cannot share a batch equally.
    """
    keep_memory()
    loop = _Loop(stage, options, folder, torch.device(device), identity)
    loop.resume()
    try:
        loop.run(report)
    finally:
        loop.close()
    stage.module.eval()


class _Loop(Generic[Batch]):
    def __init__(self, stage: Stage[Batch], options: LoopOptions, folder: Path | None, device: torch.device,
                 identity: str) -> None:
        self.stage, self.options, self.device, self.part = stage, options, device, Part.own()
        self.identity = identity
        if options.batch % self.part.size:
            raise OptionError(f"{self.part.size} processes cannot share a batch of {options.batch} equally; make it a "
                              f"multiple of {self.part.size}")
        stage.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = [{**group, "full_rate": group["lr"]} for group in stage.groups()]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer: torch.optim.Optimizer
        if options.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=options.weight_decay)
        else:
            self.optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        self.average = [parameter.detach().clone() for parameter in self.parameters] if options.average else []
        self.done = 0
        self.checkpoint = folder / f"{stage.name}.checkpoint" if folder else None
        self.log = MetricLog(folder, stage.name) if folder and self.part.rank == 0 else None

    def run(self, report: Callable[[Progress], None]) -> None:
        """All steps that are left."""
        options, start, first, told = self.options, time.perf_counter(), self.done, time.perf_counter()
        sums: dict[str, float] = {}
        count, recent = 0, deque[float](maxlen=LEARNT_AFTER // 2)
        for step, batch in self._batches():
            losses = self._step(step, batch)
            self.done, count = step + 1, count + 1
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            recent.append(losses["loss"])
            if self.log:
                self.log.write(step, losses)
            if self.done == LEARNT_AFTER and self.stage.guessing and len(recent) == recent.maxlen:
                self._check_learning(sum(recent) / len(recent), report)
            now = time.perf_counter()
            rate = (self.done - first) / (now - start)
            if now - told >= 1 or self.done == options.steps:
                means = {name: value / count for name, value in sums.items()}
                report(Progress(self.stage.name, self.done, options.steps, means, rate))
                told, sums, count = now, {}, 0
            if self.done == options.steps or (options.validate_every and self.done % options.validate_every == 0):
                self._validate(rate, report)
            if self.done == options.steps or self.done % options.save_every == 0:
                self.save()
        self._take_average()

    def _check_learning(self, loss: float, report: Callable[[Progress], None]) -> None:
        """Say so where the loss is still that of guessing."""
        guessing = self.stage.guessing
        if loss > 0.97 * guessing:
            report(Progress(self.stage.name, self.done, self.options.steps, {"loss": loss}, 0.0, remark=(
                f"after {self.done} steps the loss is {loss:.2f}, that of guessing among {round(math.exp(guessing))} "
                "classes: the learning rates are too high or far too low, or the labels are not those of the photos")))

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        """(step, batch) in order; the next few are prepared meanwhile."""
        steps = iter(range(self.done, self.options.steps))
        pending: deque[tuple[int, Future[Batch]]] = deque()
        with ThreadPoolExecutor(2, thread_name_prefix="delf-batches") as pool:
            try:
                for step in steps:
                    pending.append((step, pool.submit(self.stage.batch, step, self.part)))
                    if len(pending) > AHEAD:
                        ready, future = pending.popleft()
                        yield ready, future.result()
                for ready, future in pending:
                    yield ready, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        self.stage.module.train()
        factor = self.options.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor
        with torch.autocast(self.device.type, torch.bfloat16, enabled=computes_in_bfloat16(self.options, self.device)):
            losses = self.stage.losses(batch, self.device)
        self.optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip_norm)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(float(norm)):
            rates = ", ".join(f"{group['lr']:.2g}" for group in self.optimizer.param_groups)
            kept = f"; the checkpoint {self.checkpoint} is of before" if self.checkpoint else ""
            raise TrainingError(f"the loss of the stage {self.stage.name!r} is not a number in step {step + 1} "
                                f"(learning rates {rates}): lower the learning rates{kept}")
        self.optimizer.step()
        if self.average:
            # Young averages follow closely, so that the start does not weigh in them for long.
            decay = min(self.options.average, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return values

    def _share_gradients(self) -> None:
        """The mean over all processes, in one message: with equal parts that is the gradient of the whole batch."""
        if self.part.size == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        joined = torch.cat([gradient.reshape(-1) for gradient in gradients]) / self.part.size
        distributed.all_reduce(joined)
        start = 0
        for parameter in self.parameters:
            parameter.grad = joined[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()

    def _validate(self, rate: float, report: Callable[[Progress], None]) -> None:
        """Measure the average, if there is one: it is what the stage gives."""
        own = self._take_average()
        self.stage.module.eval()
        with torch.inference_mode():
            values = self.stage.validate()
        self._restore(own)
        if not values:
            return
        if self.log:
            self.log.write(self.done - 1, values, validated=True)
        report(Progress(self.stage.name, self.done, self.options.steps, values, rate, validated=True))

    @torch.no_grad()
    def _take_average(self) -> list[Tensor]:
        own = [parameter.clone() for parameter in self.parameters] if self.average else []
        self._restore(self.average)
        return own

    @torch.no_grad()
    def _restore(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=False):
            parameter.copy_(value)

    def close(self) -> None:
        """Let go of the log."""
        if self.log:
            self.log.close()

    def save(self) -> None:
        """Write the checkpoint, through a temporary file; only the first process does."""
        if self.checkpoint is None or self.part.rank:
            return
        state = {"module": self.stage.module.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "average": self.average, "done": self.done, "steps": self.options.steps, "batch": self.options.batch,
                 "identity": self.identity}
        if self.log:
            self.log.flush()  # a checkpoint says that the log reaches as far
        with replacing(self.checkpoint) as temporary:
            temporary.write_bytes(saved(state))

    def resume(self) -> None:
        """Go on from the checkpoint if there is one."""
        path = self.checkpoint
        if path is None or not path.is_file():
            return
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            fits = (state["steps"], state["batch"]) == (self.options.steps, self.options.batch)
            same = state.get("identity", self.identity) == self.identity  # older checkpoints have none
            if fits and same:
                self.stage.module.load_state_dict(state["module"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.average, self.done = state["average"], int(state["done"])
        except Exception as error:  # a zip of pickled tensors fails in many ways
            raise TrainingError(f"{path} is damaged, or a checkpoint of other photos or another trunk; delete it to "
                                "begin anew") from error
        if not fits:
            raise TrainingError(f"{path} is of {state['steps']} steps of {state['batch']}, not of {self.options.steps} "
                                f"of {self.options.batch}; finish it with those, or delete it to begin anew")
        if not same:
            raise TrainingError(f"{path} is of other options of the stage, of other photos or of another teacher; "
                                "finish it with those, or delete it to begin anew")
        if self.log:
            self.log.cut(self.done)


def computes_in_bfloat16(options: LoopOptions, device: torch.device) -> bool:
    """Whether the passes run in bfloat16: asked for, or "auto" where the hardware has it."""
    if options.precision != "auto":
        return options.precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def keep_memory() -> None:
    """Let glibc keep large freed blocks: page faults of fresh ones otherwise take up to half of a CPU's time."""
    if sys.platform.startswith("linux"):
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
