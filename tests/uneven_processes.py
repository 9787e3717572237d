"""Train a line in the processes that `torchrun` has started, each of which measures otherwise.

    torchrun --nproc-per-node 2 tests/uneven_processes.py FOLDER

Rank 0 finds no progress after its first evaluation, the others a little at every one.
"""

import os
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig

from tinybert_nb.training.history import STOP
from tinybert_nb.training.loop import Evaluation, train
from tinybert_nb.training.processes import processes, shared_precision
from tinybert_nb.training.settings import TrainingSettings


class Line(nn.Module):
    """One weight; the loss is its distance from 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, batch):
        return {"loss": ((batch["x"] @ self.weight - 2 * batch["x"]) ** 2).mean()}


def train_unevenly(folder: Path) -> None:
    """Write what each process ends with to `rank-N.txt`."""
    line, evaluations, rank = Line(), iter(range(100)), processes().process_index
    measure = lambda: {"loss": 1.0 - 1e-9 * rank * next(evaluations)}  # noqa: E731
    settings = TrainingSettings(epochs=4, patience=3, evaluate_every=1, learning_rate=0.1)
    batches = [{"x": torch.ones(2, 1), "row": torch.arange(2)}] * 4
    evaluation = Evaluation(measure, "loss", larger_is_better=False)
    rows = train(line, batches, settings, folder, lambda path: path.mkdir(exist_ok=True), evaluation)
    (folder / f"rank-{rank}.txt").write_text(f"{rows}\n{line.weight.item()}\n")


def train_watched(folder: Path) -> None:
    """Only rank 0 may watch: it ends the first run, and fails in the second."""
    rank = processes().process_index
    settings = TrainingSettings(epochs=4, history_every=1, learning_rate=0.1)
    batches = [{"x": torch.ones(2, 1), "row": torch.arange(2)}] * 4
    evaluation = Evaluation(lambda: {"loss": 1.0}, "loss", larger_is_better=False)
    save = lambda path: path.mkdir(exist_ok=True)  # noqa: E731

    def watch(row):
        assert rank == 0
        return STOP if row["step"] == 3 else None

    def fail(row):
        raise KeyError("accuracy")

    rows = train(Line(), batches, settings, folder / "ended", save, evaluation, watch=watch)
    try:
        train(Line(), batches, settings, folder / "failed", save, evaluation, watch=fail)
        raise AssertionError("the watcher has failed, and nobody says so")
    except (KeyError, RuntimeError) as error:
        found = type(error).__name__
    last = rows[-1]["split"], rows[-1]["step"]
    (folder / f"watched-{rank}.txt").write_text(f"{last} {found}")


def share_precision(folder: Path) -> None:
    """The precisions that the processes want differ; this is the first that asks who they are."""
    rank = os.environ["RANK"]
    chosen = shared_precision("bf16" if rank == "0" else "no", BertConfig())
    (folder / f"rank-{rank}.txt").write_text(f"{chosen}, {processes().num_processes} processes")
