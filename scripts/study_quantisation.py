"""What int8 costs a distilled student, and what it costs where stage two computes as int8 does.

    .venv/bin/python scripts/study_quantisation.py FOLDER [--students 3l-192-12h,6l-48-12h-192f]
        [--seeds 0,1] [--rows 1500] [--steps N]

The teacher is fine-tuned once, on the first movie reviews (`--rows` to train, 500 as the dev set).
For each student and seed, stage one is run once, and stage two from its checkpoint twice: as always,
and with `quantised`. Both have the same length. On 1,000 test reviews the first is measured in
float32 and in int8, the second in int8. Int8 is computed by `fake_quantised`, in batches of 64 texts
and one text at a time. The rows are in FOLDER/rows.json, and those of two seeds in the book, in
nbs/quantisation/int8.json. Finished runs are not repeated, interrupted ones resume. --steps cuts
each stage, to try it.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from tinybert_nb.data.batches import make_loader
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.packaged_texts import movie_reviews
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.evaluation.predictions import open_system, predict_logits
from tinybert_nb.files.storage import atomic_file, read_own_record, write_json
from tinybert_nb.files.table_styles import format_table
from tinybert_nb.files.terminal import log_line, show
from tinybert_nb.models.fake_quantisation import fake_quantised
from tinybert_nb.models.sizes import count_parameters
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.training.environment import environment
from tinybert_nb.training.settings import DistillSettings

LENGTH = 64  # tokens of a text


def first_reviews(folder: Path, rows: int) -> tuple[TaskFiles, Path]:
    """Training and dev file, and the test file."""
    reviews, paths = movie_reviews(), {}
    for name, count in (("train", rows), ("dev", 500), ("test", 1000)):
        paths[name] = folder / f"{name}.txt"
        lines = reviews[name].read_text(encoding="utf-8").splitlines()[:count]
        with atomic_file(paths[name]) as unfinished:
            unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaskFiles(paths["train"], paths["dev"]), paths["test"]


def recipe(steps: int | None) -> DistillSettings:
    """The settings of all runs: a quick budget, short texts."""
    usual = DistillSettings()
    short: dict[str, Any] = {"max_length": LENGTH, "budget": "quick", "steps": steps}
    one = replace(usual.stage_one, any_teacher=steps is not None, **short)
    return replace(usual, finetune=replace(usual.finetune, **short), stage_one=one,
                   stage_two=replace(usual.stage_two, **short))


def measured(checkpoint: Path, test: Path) -> dict[str, tuple[float, Tensor]]:
    """Accuracy and predicted classes of a student, in float32 and in int8."""
    system = open_system(checkpoint, list(read_examples(test)), max_length=LENGTH)
    labels = torch.tensor([row["label"] for row in system.rows])
    found = {}
    for name, quantised, size in (("float32", False, 64), ("int8", True, 64),
                                  ("int8, one text at a time", True, 1)):
        with fake_quantised(system.model) if quantised else nullcontext():
            logits = predict_logits(system.model, make_loader(system.rows, system.tokenizer, size))
        answers = logits.argmax(-1)
        found[name] = (answers == labels).double().mean().item(), answers
    found["parameters"] = count_parameters(system.model), labels
    return found


def rows_of(files: TaskFiles, test: Path, teacher: Path, student: str, out: Path,
            settings: DistillSettings) -> Iterator[dict]:
    """The rows of a student and seed."""
    stage_one(files, teacher, student, out / "stage-one", settings.stage_one)
    ways = {}
    for training, quantised in (("as always", False), ("quantised", True)):
        place = out / training.replace(" ", "-")
        stage_two(files, teacher, out / "stage-one/last", place,
                  replace(settings.stage_two, quantised=quantised))
        ways[training] = measured(place / "best", test)
    float_answers = ways["as always"]["float32"][1]
    for training, systems in ways.items():
        parameters, _ = systems.pop("parameters")
        for numbers, (accuracy, answers) in systems.items():
            agreement = (answers == float_answers).double().mean().item()
            yield {"student": student, "seed": settings.stage_two.seed, "training": training,
                   "inference": numbers, "accuracy": accuracy, "agreement": agreement,
                   "parameters": int(parameters)}


def table(rows: list[dict]) -> str:
    """Means over seeds, and the least and largest difference from float32."""
    usual = {(row["student"], row["seed"]): row["accuracy"] for row in rows
             if (row["training"], row["inference"]) == ("as always", "float32")}
    found = defaultdict(list)
    for row in rows:
        found[row["student"], row["training"], row["inference"]].append(row)
    lines = []
    for names, some in found.items():
        lost = [row["accuracy"] - usual[row["student"], row["seed"]] for row in some]
        lines.append((*names, f"{mean(row['accuracy'] for row in some):.3f}", f"{mean(lost):+.4f}",
                      f"{min(lost):+.3f} to {max(lost):+.3f}",
                      f"{mean(row['agreement'] for row in some):.3f}", len(some)))
    return format_table(("student", "stage two", "inference", "accuracy", "less float32",
                         "over the seeds", "agreement", "seeds"), lines)


def main() -> None:
    """Run the study, and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", default="3l-192-12h,6l-48-12h-192f")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--steps", type=int)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    place = given.folder / "rows.json"
    earlier, now = read_own_record(place), {"rows_to_train": given.rows, "steps": given.steps}
    if earlier and any(earlier.get(name) != value for name, value in now.items()):
        parser.error(f"{given.folder} holds a study of another length")
    files, test = first_reviews(given.folder, given.rows)
    settings = recipe(given.steps)
    finetune(files, DEFAULT_TEACHER, given.folder / "teacher", settings.finetune)
    names = ("student", "seed", "training", "inference")
    rows = {tuple(row[name] for name in names): row for row in earlier.get("rows", [])}
    for seed in map(int, given.seeds.split(",")):
        for student in given.students.split(","):
            for row in rows_of(files, test, given.folder / "teacher/best", student,
                               given.folder / student / str(seed), settings.with_seed(seed)):
                rows[tuple(row[name] for name in names)] = row
                log_line(f"seed {seed}, {student}, {row['training']}, {row['inference']}: "
                         f"{row['accuracy']:.3f}")
            write_json(place, {"rows": [*rows.values()], **now, **environment()})
    show(table([*rows.values()]))


if __name__ == "__main__":
    main()
