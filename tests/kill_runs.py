"""Trains one small stage one again and again and kills it; test_kill_and_resume.py looks at what is left.

    python tests/kill_runs.py FOLDER SEED KILLS

A child of this process trains, and this process ends it with SIGKILL: at random moments, and, by the
child's own hand, at chosen places in the middle of a save. After each kill the same training is
started again in the same folder, until it ends by itself. Prints JSON: how often the runs in each
folder were killed, where, and how many updates were done by then.
"""

import gc
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig

from tinybert_nb.data.batches import make_loader
from tinybert_nb.distillation.distiller import Distiller, Term
from tinybert_nb.distillation.layer_map import uniform_map
from tinybert_nb.distillation.projections import Projections
from tinybert_nb.files.storage import atomic_folder
from tinybert_nb.models.heads import new_student
from tinybert_nb.training.intermediate import IntermediateStep
from tinybert_nb.training.loop import Evaluation, train
from tinybert_nb.training.settings import TrainingSettings

SIZES = dict(vocab_size=60, intermediate_size=48, max_position_embeddings=24)


class Tokenizer:
    """Only the padding is asked for."""

    pad_token_id = 0
    model_max_length = 24


def training(folder: Path) -> None:
    """Stage one of a model of 2 layers under one of 4, dropout on, a state after every update."""
    torch.set_num_threads(1)
    chance = random.Random(5)
    rows = [
        {
            "input_ids": [chance.randrange(1, 60) for _ in range(chance.randrange(3, 20))],
            "label": 0,
            "row": number,
        }
        for number in range(37)
    ]
    teacher = new_student(
        BertConfig(**SIZES, hidden_size=48, num_hidden_layers=4, num_attention_heads=4), 1
    )
    student = new_student(
        BertConfig(**SIZES, hidden_size=32, num_hidden_layers=2, num_attention_heads=4), 2
    )
    torch.manual_seed(3)
    terms = [Term("embedding"), Term("hidden"), Term("attention")]
    step = IntermediateStep(
        student, Distiller(terms, uniform_map(4, 2), Projections(32, 48, 2)), teacher
    )

    def save(checkpoint):
        with atomic_folder(checkpoint) as unfinished:
            save_file(step.state_dict(), unfinished / "model.safetensors")

    held_out = rows[:9]

    def measure():
        batches = list(make_loader(held_out, Tokenizer, 9))
        return {"loss": sum(float(step(batch)["loss"]) for batch in batches)}

    settings = TrainingSettings(
        epochs=3,
        batch_size=8,
        learning_rate=1e-2,
        precision="no",
        checkpoint_seconds=0,
        history_every=3,
    )
    train(
        step,
        make_loader(rows, Tokenizer, 8, seed=0),
        settings,
        folder,
        save,
        Evaluation(measure, "loss", larger_is_better=False),
    )


def die_at(call: str, number: int) -> None:
    """SIGKILL to oneself at the given call of os.fsync or os.replace, before it or after it."""
    name, when = call.split()
    plain, left = getattr(os, name), [number]

    def deadly(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(*arguments, **options)
        if left[0] == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, deadly)


def child(folder: Path, place: tuple[str, int] | None) -> int:
    """Start a training in a process of its own; its process number."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        os.environ["TQDM_DISABLE"] = "1"
        if place:
            die_at(*place)
        training(folder)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def updates_done(folder: Path) -> int:
    """The number of the newest saved state."""
    return max((int(path.stem[5:]) for path in folder.glob("state/step-*.safetensors")), default=0)


def ended(number: int) -> bool:
    """Wait for a child: True if it ended by itself, False if it was killed."""
    _, status = os.waitpid(number, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(status)}"
        return False
    assert os.WEXITSTATUS(status) == 0, "the training failed"
    return True


def main(folder: Path, seed: int, kills: int) -> dict:
    """One run in peace, then runs that are killed, until there were enough kills."""
    gc.collect()
    gc.freeze()  # a child that collects need not look through what was imported
    chance, start = random.Random(seed), time.perf_counter()
    assert ended(child(folder / "whole", None))
    whole_seconds = time.perf_counter() - start
    places = [
        (call, chance.randrange(1, 30))
        for call in ("fsync before", "fsync after", "replace before", "replace after")
    ]
    runs, killed = [], 0
    while killed < kills or places:
        runs.append({"folder": f"killed-{len(runs)}", "kills": []})
        out = folder / runs[-1]["folder"]
        while True:
            place = places.pop() if places and chance.random() < 0.5 else None
            number = child(out, place)
            if place is None and killed < kills:
                time.sleep(chance.uniform(0, whole_seconds / 2))
                os.kill(number, signal.SIGKILL)
            if ended(number):
                # a place that was not reached may lie behind the end of every run: choose half of it
                places += [(place[0], max(1, place[1] // 2))] if place else []
                break
            killed += 1
            runs[-1]["kills"].append([place or "random moment", updates_done(out)])
    return {"seed": seed, "whole_seconds": whole_seconds, "runs": runs}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])), indent=1))
