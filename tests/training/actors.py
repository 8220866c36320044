"""What the tests of training run as processes of their own."""

import sys
from pathlib import Path

import torch

from delf.network.model import DelfModel
from delf.training.classification import ClassificationOptions, ClassificationStage
from delf.training.engine import LoopOptions, run_stage
from delf.training.photos import LabelledPhoto, PhotoCache


def classify(photos: str, folder: str) -> None:
    """Train a few steps; the checkpoint is in the folder."""
    torch.set_num_threads(1)
    labelled = [LabelledPhoto(Path(photos) / f"{name}{side}.jpg", name) for name in ("astronaut", "coffee", "rocket")
                for side in ("", "-side")]
    stage = ClassificationStage(DelfModel.from_pretrained("delf-r18"), labelled, PhotoCache(), 4,
                                ClassificationOptions(side=72, crop=64))
    Path(folder).mkdir(exist_ok=True)
    run_stage(stage, LoopOptions(steps=12, batch=4, optimizer="sgd", save_every=3, precision="float32"), Path(folder))


if __name__ == "__main__":
    {"classify": classify}[sys.argv[1]](*sys.argv[2:])
