"""What `verifier.py` fits: functions from evidence to the probability of being right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from delf.training.calibration import Samples, fit

Numbers = NDArray[np.float64]
Judge = Callable[[Numbers], Numbers]  # (S, E) -> (S,)
Learn = Callable[[Numbers, NDArray[np.bool_]], Judge]  # from samples, and which of them are right


def logistic(names: Sequence[str]) -> Learn:
    """A logistic regression, as `delf calibrate` fits it."""
    def learn(evidence: Numbers, right: NDArray[np.bool_]) -> Judge:
        signs = np.array([-1.0 if name in ("residual", "zoom") else 1.0 for name in names])
        weights = fit(Samples(evidence * signs, right, np.zeros(len(right), np.str_), tuple(names)))
        return lambda rows: 1 / (1 + np.exp(-(rows * signs @ [weights[name] for name in names]
                                              + weights["intercept"])))

    return learn


class SummedInliers(torch.nn.Module):
    """A logistic function of log(1 + a sum of inliers, each with the weight of its kind) and of other evidence."""

    def __init__(self, start: Sequence[float], others: int) -> None:
        """start: the weight of each kind at first. others: how many columns of other evidence follow."""
        super().__init__()
        self.logs = torch.nn.Parameter(torch.log(torch.tensor(start)))
        self.rest, self.gain = torch.nn.Linear(others, 1), torch.nn.Parameter(torch.ones(1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(S, K + E) -> (S, 1)."""
        kinds, others = rows[:, : len(self.logs)], rows[:, len(self.logs):]
        judged: torch.Tensor = self.gain * torch.log1p((kinds * self.logs.exp()).sum(1, keepdim=True))
        return judged + self.rest(others)


def network(inputs: int) -> torch.nn.Module:
    """One hidden layer of 16."""
    return torch.nn.Sequential(torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))


def trained(make: Callable[[], torch.nn.Module], scaled: bool) -> Learn:
    """The mean of three networks. scaled: whether evidence is brought to one spread first."""
    torch.set_num_threads(1)

    def learn(evidence: Numbers, right: NDArray[np.bool_]) -> Judge:
        mean, spread = (evidence.mean(0), evidence.std(0) + 1e-6) if scaled else (0.0, 1.0)
        rows, wanted = (torch.tensor(array, dtype=torch.float32) for array in ((evidence - mean) / spread, right))
        models = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = make()
            optimiser = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.02)
            for _ in range(300):
                optimiser.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(model(rows)[:, 0], wanted)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            models.append(model.eval())

        def judge(others: Numbers) -> Numbers:
            with torch.no_grad():
                asked = torch.tensor((others - mean) / spread, dtype=torch.float32)
                return torch.sigmoid(torch.stack([one(asked)[:, 0] for one in models]).mean(0)).numpy().astype(float)

        return judge

    return learn
