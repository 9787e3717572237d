"""What a smaller vocabulary costs: students of the movie reviews, trimmed in several ways, in int8.

    .venv/bin/python scripts/study_trimming.py FOLDER [--minimums 1,2,5] [--sizes 7900,6000,4000]
        [--seeds 0,1,2] [--ways whole,trimmed,again,between,aligned,teacher]
        [--students 3l-192,6l-96-12h-384f] [--tiny]

Of each seed, the pre-trained teacher is fine-tuned with the whole vocabulary (the row `itself`).
Then, for each student, it teaches a student with the whole vocabulary (`whole`), and for each
vocabulary

* `trimmed`: the student is trimmed by the training texts, and not trained any more;
* `again`: it repeats stage two after that, from the teacher with the whole vocabulary; the student
  that was not trimmed repeats it as well, for comparison;
* `between`: the student is trimmed between stage one and stage two, which it has with the smaller
  vocabulary;
* `aligned`: it is trimmed before stage one, and learns both stages from the teacher with the whole
  vocabulary, with aligned tokens;
* `teacher`: the pre-trained teacher is trimmed, and the whole recipe is run with it.

All are measured on the test file, in float32 and, exported to ONNX, in int8. The rows are in
FOLDER/rows.json; finished runs are not repeated, interrupted ones resume. --tiny makes two updates
on 200 rows, to try it in some minutes. A seed takes one run of the recipe for each student, and one
more for each vocabulary with `teacher`; `distill` says how long that takes on a machine.
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
from tinybert_nb.deployment.onnx_export import export_model
from tinybert_nb.deployment.quantisation import quantise_onnx
from tinybert_nb.deployment.vocabulary_trimming import (
    compare_tokenizers, read_texts, trim_vocabulary)
from tinybert_nb.evaluation.tables import with_spread
from tinybert_nb.files.storage import read_own_record, write_json
from tinybert_nb.files.table_styles import format_table
from tinybert_nb.files.terminal import log_line, show
from tinybert_nb.models.loading import load_config
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.recipes.task_distillation import distill_student, measure_once
from tinybert_nb.studies.ablations import mean_interval
from tinybert_nb.training.environment import environment
from tinybert_nb.training.settings import DistillSettings

WAYS = ("whole", "trimmed", "again", "between", "aligned", "teacher")
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

    def __init__(self, files: TaskFiles, test: Path, students: Sequence[str], folder: Path,
                 settings: DistillSettings):
        self.files, self.test, self.students = files, test, students
        self.folder, self.settings = folder, settings

    def teacher(self, pretrained: str | Path, name: str) -> Path:
        """A pre-trained teacher, fine-tuned."""
        finetune(self.files, pretrained, self.folder / name / "teacher", self.settings.finetune)
        return self.folder / name / "teacher/best"

    def student(self, teacher: Path, student: str, name: str) -> Path:
        """A student that learnt from a fine-tuned teacher in both stages."""
        out = self.folder / name / student
        systems = distill_student(self.files, teacher, student, out, self.settings)
        return systems[f"{student} distilled"]

    def again(self, teacher: Path, student: Path, name: str) -> Path:
        """The student after one more stage two."""
        stage_two(self.files, teacher, student, self.folder / name, self.settings.stage_two)
        return self.folder / name / "best"

    def trimmed(self, model: str | Path, vocabulary: Vocabulary, name: str) -> Path:
        """The model with a vocabulary that the training texts choose."""
        out, (option, number) = self.folder / name, vocabulary
        if not (out / "trimmed.json").is_file():
            trim_vocabulary(model, self.files.train, out, **{option: number})
        return out

    def int8(self, checkpoint: Path, name: str) -> dict:
        """Size and metric of a checkpoint's ONNX graphs."""
        out = self.folder / name
        if not (out / "export.json").is_file():
            export_model(checkpoint, out)
        found = quantise_onnx(out, eval=self.test)
        return {"onnx_megabytes": found["megabytes"][0], "int8_megabytes": found["megabytes"][1],
                "int8_metric": found[found["metric"]][1], "int8_agreement": found["agreement"]}

    def measured(self, way: str, vocabulary: Vocabulary | None, student: str,
                 checkpoint: Path) -> dict:
        """The row of a checkpoint: its metrics on the test file, and how it reads this file."""
        name = "-".join(map(str, (student, way, *(vocabulary or ()))))
        length, seed = self.settings.finetune.max_length, self.settings.finetune.seed
        row = measure_once(self.folder / "measured" / name, {student: checkpoint},
                           replace(self.files, eval=self.test), length, seed, quiet=True)[-1]
        read = compare_tokenizers(read_texts(self.test), load_tokenizer(DEFAULT_TEACHER),
                                  load_tokenizer(checkpoint), shown=0)
        return row | self.int8(checkpoint, f"exported/{name}") | {
            "student": student, "way": way,
            "vocabulary": " ".join(map(str, vocabulary or ("whole",))),
            "vocabulary_size": load_config(checkpoint).vocab_size,
            "tokens_per_text": read["tokens"][1] / read["texts"],
            "changed_texts": read["changed_texts"] / read["texts"]}

    def rows(self, vocabularies: Sequence[Vocabulary], ways: Sequence[str]) -> Iterable[dict]:
        """All rows of this seed, each as soon as it is measured."""
        teacher = self.teacher(DEFAULT_TEACHER, "whole")
        yield self.measured("itself", None, "teacher", teacher)
        for student in self.students:
            for vocabulary in vocabularies if "teacher" in ways else ():
                name = "-".join(map(str, vocabulary))
                small = self.trimmed(DEFAULT_TEACHER, vocabulary, f"{name}/pre-trained")
                yield self.measured("teacher", vocabulary, student,
                                    self.student(self.teacher(small, name), student, name))
            if {*ways} - {"teacher"}:
                yield from self.later_rows(teacher, student, vocabularies, ways)

    def later_rows(self, teacher: Path, student: str, vocabularies: Sequence[Vocabulary],
                   ways: Sequence[str]) -> Iterable[dict]:
        """The rows of a student that was distilled with the whole vocabulary, then trimmed."""
        whole = self.student(teacher, student, "whole")
        yield self.measured("whole", None, student, whole)
        if "again" in ways:
            yield self.measured("again", None, student,
                                self.again(teacher, whole, f"whole/{student}/again"))
        for vocabulary in vocabularies:
            name = f"{'-'.join(map(str, vocabulary))}/{student}"
            cut = self.trimmed(whole, vocabulary, f"{name}/cut")
            if "trimmed" in ways:
                yield self.measured("trimmed", vocabulary, student, cut)
            if "again" in ways:
                yield self.measured("again", vocabulary, student,
                                    self.again(teacher, cut, f"{name}/again"))
            one = self.folder / "whole" / student / "stage-one"
            if "between" in ways:
                cut = self.trimmed(one / "last", vocabulary, f"{name}/last-cut")
                yield self.measured("between", vocabulary, student,
                                    self.again(teacher, cut, f"{name}/between"))
            if "aligned" in ways:
                cut = self.trimmed(one / "start", vocabulary, f"{name}/start-cut")
                aligned = replace(self.settings.stage_one, vocabularies="aligned")
                stage_one(self.files, teacher, cut, self.folder / name / "aligned-one", aligned)
                yield self.measured("aligned", vocabulary, student, self.again(
                    teacher, self.folder / name / "aligned-one/last", f"{name}/aligned"))


def table(rows: list[dict]) -> str:
    """A line for each student, way and vocabulary: sizes, the metric, and the teacher's share."""
    teachers = {row["seed"]: row for row in rows if row["way"] == "itself"}
    found = defaultdict(list)
    for row in rows:
        found[row["student"], row["way"], row["vocabulary"]].append(row)
    lines = []
    for about, some in found.items():
        metric = some[0]["metric"]
        values = [row[metric] for row in some]
        shares = [row["int8_metric"] / teachers[row["seed"]][metric] for row in some]
        lines.append((*about, *(f"{mean(row[name] for row in some):{form}}" for name, form
                                in (("vocabulary_size", ",.0f"), ("parameters", ",.0f"),
                                    ("tokens_per_text", ".1f"), ("changed_texts", ".0%"))),
                      with_spread(*mean_interval(values), ".3f"),
                      f"{mean(row['int8_megabytes'] for row in some):.2f}",
                      with_spread(*mean_interval([row["int8_metric"] for row in some]), ".3f"),
                      f"{mean(shares):.1%}", len(some)))
    head = ("student", "way", "vocabulary", "tokens in it", "parameters", "tokens per text",
            "changed texts", "metric", "int8, MB", "int8", "of the teacher's", "seeds")
    return format_table(head, lines)


def main() -> None:
    """Run the study, and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    for name, default in (("minimums", "1,2,5"), ("sizes", "7900,6000,4000"), ("seeds", "0,1,2"),
                          ("ways", ",".join(WAYS)), ("students", "3l-192")):
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
    earlier = read_own_record(place)
    if earlier and earlier["tiny"] != given.tiny:
        parser.error(f"{given.folder} holds a study of another length")
    rows = {key(row): row for row in earlier.get("rows", [])}
    for seed in map(int, given.seeds.split(",")):
        study = Study(files, reviews["test"], given.students.split(","), given.folder / f"seed-{seed}",
                      settings.with_seed(seed))
        for row in study.rows(vocabularies, ways):
            rows[key(row)] = row
            write_json(place, {"rows": [*rows.values()], "tiny": given.tiny, **environment()})
            log_line(f"seed {seed}, {row['student']}, {row['way']}, {row['vocabulary']}: "
                     f"{row[row['metric']]:.3f}, int8 {row['int8_metric']:.3f}")
    show(table([*rows.values()]))


def key(row: dict) -> tuple:
    """What tells rows apart."""
    return row["seed"], row["student"], row["way"], row["vocabulary"]


if __name__ == "__main__":
    main()
