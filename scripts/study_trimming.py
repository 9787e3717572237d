"""What a smaller vocabulary costs: a student of the movie reviews, trimmed in several ways.

    .venv/bin/python scripts/study_trimming.py FOLDER [--minimums 1,2,5] [--sizes 7900,6000,4000]
        [--seeds 0,1,2] [--ways trimmed,again,teacher] [--student tinybert-3l-192] [--tiny]

Of each seed, the whole recipe is run with the whole vocabulary. Then, for each vocabulary,

* `trimmed`: the student is trimmed by the training texts, and not trained any more;
* `again`: it repeats stage two after that, from the teacher with the whole vocabulary; the student
  that was not trimmed repeats it as well, for comparison;
* `teacher`: the pre-trained teacher is trimmed, and the whole recipe is run with it.

All are measured on the test file. The rows are in FOLDER/rows.json; finished runs are not repeated,
interrupted ones resume. --tiny makes two updates on 200 rows, to try it in some minutes. A seed
takes one run of the recipe, and one more for each vocabulary with `teacher`; `distill` says how long
that takes on a machine.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.data.packaged_texts import movie_reviews
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.deployment.vocabulary_trimming import (
    compare_tokenizers, read_texts, trim_vocabulary)
from tinybert_nb.evaluation.tables import with_spread
from tinybert_nb.files.storage import read_own_record, write_json
from tinybert_nb.files.table_styles import format_table
from tinybert_nb.files.terminal import log_line, show
from tinybert_nb.models.loading import load_config
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.recipes.task_distillation import distill_student, measure_once
from tinybert_nb.studies.ablations import mean_interval
from tinybert_nb.training.environment import environment
from tinybert_nb.training.settings import DistillSettings

WAYS = ("trimmed", "again", "teacher")
Vocabulary = tuple[str, int]  # ("minimum", 2) or ("size", 8000)


def tiny_files(files: TaskFiles, folder: Path) -> TaskFiles:
    """The first rows of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, source in (("train", files.train), ("dev", files.eval)):
        lines = Path(str(source)).read_text(encoding="utf-8").splitlines()[:200]
        paths[name] = folder / f"{name}.txt"
        paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TaskFiles(paths["train"], paths["dev"])


def tiny_settings(settings: DistillSettings) -> DistillSettings:
    """Two updates a stage; such a teacher knows nothing."""
    one = replace(settings.stage_one, steps=2, any_teacher=True)
    return replace(settings, finetune=replace(settings.finetune, steps=2), stage_one=one,
                   stage_two=replace(settings.stage_two, steps=2))


class Study:
    """The runs of one seed."""

    def __init__(self, files: TaskFiles, test: Path, student: str, folder: Path,
                 settings: DistillSettings):
        self.files, self.test, self.student = files, test, student
        self.folder, self.settings = folder, settings

    def recipe(self, teacher: str | Path, name: str) -> tuple[Path, Path]:
        """The fine-tuned teacher and the distilled student of a pre-trained teacher."""
        out = self.folder / name
        finetune(self.files, teacher, out / "teacher", self.settings.finetune)
        taught = out / "teacher/best"
        systems = distill_student(self.files, taught, self.student, out, self.settings)
        return taught, systems[f"{self.student} distilled"]

    def again(self, teacher: Path, student: Path, name: str) -> Path:
        """The student after one more stage two."""
        out = self.folder / name
        stage_two(self.files, teacher, student, out, self.settings.stage_two)
        return out / "best"

    def trimmed(self, model: str | Path, vocabulary: Vocabulary, name: str) -> Path:
        """The model with a vocabulary that the training texts choose."""
        out, (option, number) = self.folder / name, vocabulary
        if not (out / "trimmed.json").is_file():
            trim_vocabulary(model, self.files.train, out, **{option: number})
        return out

    def measured(self, way: str, vocabulary: Vocabulary | None, student: Path) -> dict:
        """The row of a student: its metrics on the test file, and how it reads this file."""
        name = "-".join(map(str, ("measured", way, *(vocabulary or ()))))
        length, seed = self.settings.finetune.max_length, self.settings.finetune.seed
        row = measure_once(self.folder / name, {"student": student},
                           replace(self.files, eval=self.test), length, seed, quiet=True)[-1]
        read = compare_tokenizers(read_texts(self.test), load_tokenizer(DEFAULT_TEACHER),
                                  load_tokenizer(student), shown=0)
        return row | {"way": way, "vocabulary": " ".join(map(str, vocabulary or ("whole",))),
                      "vocabulary_size": load_config(student).vocab_size,
                      "tokens_per_text": read["tokens"][1] / read["texts"],
                      "changed_texts": read["changed_texts"] / read["texts"]}

    def rows(self, vocabularies: Sequence[Vocabulary], ways: Sequence[str]) -> Iterable[dict]:
        """All rows of this seed, each as soon as it is measured."""
        teacher, student = self.recipe(DEFAULT_TEACHER, "whole")
        yield self.measured("whole", None, student)
        if "again" in ways:
            yield self.measured("again", None, self.again(teacher, student, "whole/again"))
        for vocabulary in vocabularies:
            name = "-".join(map(str, vocabulary))
            cut = self.trimmed(student, vocabulary, f"{name}/student")
            if "trimmed" in ways:
                yield self.measured("trimmed", vocabulary, cut)
            if "again" in ways:
                yield self.measured("again", vocabulary,
                                    self.again(teacher, cut, f"{name}/again"))
            if "teacher" in ways:
                small = self.trimmed(DEFAULT_TEACHER, vocabulary, f"{name}/pre-trained")
                yield self.measured("teacher", vocabulary, self.recipe(small, f"{name}/recipe")[1])


def table(rows: list[dict]) -> str:
    """A line for each way and vocabulary: sizes, the metric, and the difference to the whole."""
    whole = {row["seed"]: row for row in rows if row["way"] == "whole"}
    found = defaultdict(list)
    for row in rows:
        found[row["way"], row["vocabulary"]].append(row)
    lines = []
    for (way, vocabulary), some in found.items():
        metric = some[0]["metric"]
        pairs = [(row[metric], row[metric] - whole[row["seed"]][metric])
                 for row in some if row["seed"] in whole]
        values, differences = zip(*pairs)
        lines.append((way, vocabulary, *(f"{mean(row[name] for row in some):{form}}" for name, form
                                         in (("vocabulary_size", ",.0f"), ("parameters", ",.0f"),
                                             ("tokens_per_text", ".1f"), ("changed_texts", ".0%"))),
                      with_spread(*mean_interval(values), ".3f"),
                      with_spread(*mean_interval(differences), "+.3f"), len(some)))
    head = ("way", "vocabulary", "tokens in it", "parameters", "tokens per text", "changed texts",
            "metric", "less whole", "seeds")
    return format_table(head, lines)


def main() -> None:
    """Run the study, and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    for name, default in (("minimums", "1,2,5"), ("sizes", "7900,6000,4000"), ("seeds", "0,1,2"),
                          ("ways", ",".join(WAYS)), ("student", "tinybert-3l-192")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    ways = given.ways.split(",")
    if unknown := [way for way in ways if way not in WAYS]:
        parser.error(f"--ways has {unknown[0]!r}: choose from {', '.join(WAYS)}")
    vocabularies = [(option, int(number)) for option, numbers in
                    (("minimum", given.minimums), ("size", given.sizes))
                    for number in numbers.split(",") if number]
    reviews, settings = movie_reviews(), DistillSettings(baseline=False)
    files = TaskFiles(reviews["train"], reviews["dev"])
    if given.tiny:
        files, settings = tiny_files(files, given.folder / "tiny"), tiny_settings(settings)
    place = given.folder / "rows.json"
    earlier, now = read_own_record(place), {"student": given.student, "tiny": given.tiny}
    if earlier and any(earlier.get(name) != value for name, value in now.items()):
        parser.error(f"{given.folder} holds a study of another student or length")
    rows = {key(row): row for row in earlier.get("rows", [])}
    for seed in map(int, given.seeds.split(",")):
        study = Study(files, reviews["test"], given.student, given.folder / f"seed-{seed}",
                      settings.with_seed(seed))
        for row in study.rows(vocabularies, ways):
            rows[key(row)] = row
            write_json(place, {"rows": [*rows.values()], **now, **environment()})
            log_line(f"seed {seed}, {row['way']}, {row['vocabulary']}: {row[row['metric']]:.3f}")
    show(table([*rows.values()]))


def key(row: dict) -> tuple:
    """What tells rows apart."""
    return row["seed"], row["way"], row["vocabulary"]


if __name__ == "__main__":
    main()
