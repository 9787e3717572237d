"""A kind of task from outside the package goes the whole road, and no module knows kinds by name."""

import ast
import json
import random
import sys

import numpy as np
import pytest
import torch

from conftest import history_rows, run_command, succeeded
from run_notebooks import PLAIN_TEST
from sources import all_modules, all_notebooks
from test_augmentation import save_masked_lm
from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.task_form import KINDS, DataError, TaskForm
from tinybert_nb.data.sequence_classification import Regression
from tinybert_nb.data.task_kinds import register_kind
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.distillation.losses import LOSSES, register_loss
from tinybert_nb.evaluation.scoreboard import find_entries, score
from tinybert_nb.evaluation.submission import answer_texts
from tinybert_nb.models.heads import kind_of
from tinybert_nb.models.loading import load_config
from tinybert_nb.recipes.task_distillation import distill
from tinybert_nb.training.settings import (
    AugmentationSettings, DistillSettings, FinetuneSettings, StageOneSettings, StageTwoSettings)
from tinybert_nb.training.status import run_status

FORM = TaskForm(problem="counts")


@pytest.fixture
def counts():
    """How many times something happens: Poisson regression, measured by the mean absolute error."""

    @register_loss("gold", "poisson")
    def poisson(student_logits, labels):
        return torch.nn.functional.poisson_nll_loss(student_logits.float().flatten(), labels.float().flatten())

    @register_kind
    class Counts(Regression):
        problem, gold_loss, smaller_is_better = "counts", "poisson", ("absolute_error",)

        def read_label(self, cell):
            number = super().read_label(cell)
            if number < 0 or number != int(number):
                raise DataError(f"the label {cell!r} is no count")
            return number

        def metrics(self, logits, labels, names=()):
            answers = np.exp(np.asarray(logits, dtype=float)[:, 0])
            return {"absolute_error": float(np.abs(answers - np.asarray(labels)).mean())}

        def metric_names(self, names=()):
            return ["absolute_error"]

        def constant_logits(self, learnt, names):
            return np.log(max(0.01, np.median(learnt)))

        def answers(self, logits, labels, names):
            return {row: round(np.exp(value)) for row, value in super().answers(logits, labels, names).items()}

    yield Counts
    del KINDS["counts"], LOSSES["gold"]["poisson"]


def write(path, seed, count):
    """Reviews that praise several times."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        times = chance.randint(0, 4)
        rows.append({"text": f"film {number}:" + " lovely" * times + " the end", "label": times})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_kind_from_outside_goes_the_whole_road(counts, small_teacher, tmp_path):
    train, test, out = tmp_path / "train.jsonl", tmp_path / "test.jsonl", tmp_path / "run"
    write(train, 0, 60), write(test, 1, 30)
    brief = {"epochs": 1, "max_length": 32, "batch_size": 16}
    settings = DistillSettings(
        finetune=FinetuneSettings(**brief | {"epochs": 4}), stage_one=StageOneSettings(**brief, any_teacher=True),
        stage_two=StageTwoSettings(**brief), augment=True,
        augmentation=AugmentationSettings(samples=2, vectors="none", masked_lm=str(save_masked_lm(tmp_path / "masked-lm"))))
    rows = distill(TaskFiles(train, form=FORM), small_teacher, "2l-48-12h", out, settings, test)
    simple = ["majority", "bag of words", "frozen teacher"]
    assert [row["system"] for row in rows] == [*simple, "teacher", "2l-48-12h baseline", "2l-48-12h distilled"]
    assert all(row["metric"] == "absolute_error" and row["absolute_error"] >= 0 for row in rows)
    gold = [example.label for example in read_examples(test, form=FORM)]
    learnt = [example.label for example in read_examples(train, form=FORM)]
    assert rows[0]["absolute_error"] == pytest.approx(np.abs(np.median(learnt) - gold).mean())

    dev = [row["absolute_error"] for row in history_rows(out / "teacher") if row["split"] == "dev"]
    best = json.loads((out / "teacher/result.json").read_text())["best"]
    assert len(dev) == 4 and best == min(dev)  # the smallest error chose the checkpoint
    [status] = run_status(out / "teacher")
    assert (status["metric"], status["best"]) == ("absolute_error", best)

    student = out / "stage-two/best"
    assert kind_of(load_config(student)).problem == "counts"
    assert "AutoModelForSequenceClassification" in (student / "README.md").read_text(encoding="utf-8")
    answers = answer_texts(student, [("lovely lovely",), ("the end",)])
    assert all(isinstance(answer, int) and answer >= 0 for answer in answers)

    entries, _ = find_entries([out])
    scored = score(entries, test, FORM, max_length=32)
    assert len(scored) == 3 and all(row["low"] <= row["absolute_error"] <= row["high"] for row in scored)
    assert not any({"agreement", "calibration_error", "own_errors"} & {*row} for row in scored)


def test_its_bad_rows_are_located(counts, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": -1}\n{"text": "c", "label": 0.5}\n')
    with pytest.raises(DataError, match="bad.jsonl: 2 bad lines:\n.*bad.jsonl:2: the label -1 is no count\n.*:3: the label 0.5 is"):
        read_examples(tmp_path / "bad.jsonl", form=FORM)


def test_its_model_is_refused_where_the_kind_is_unknown(tmp_path, monkeypatch):
    monkeypatch.delitem(KINDS, "counts", raising=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "task_kind": "counts"}))
    with pytest.raises(ValueError, match="is of the kind 'counts', which is none of multi, regression, single, .*: import the module that registers it"):
        kind_of(load_config(str(tmp_path)))


def names_of_kinds(source: str) -> list[str]:
    """Comparisons with a kind's name, which belong into the kind."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(
                getattr(each, "attr", getattr(each, "id", "")) == "problem" for each in (node.left, *node.comparators)):
            strings = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
            found += [f"line {node.lineno}: {name}" for name in sorted(strings & {*KINDS}, key=str)]
    return found


def test_no_module_knows_a_kind_by_its_name():
    assert {name: names_of_kinds(path.read_text(encoding="utf-8")) for name, path in all_modules().items()
            if names_of_kinds(path.read_text(encoding="utf-8"))} == {}


def test_the_rule_finds_a_branch():
    source = 'if form.problem == "spans": pass\nif problem in ("single", "tokens"): pass\nif problem: pass\n'
    assert names_of_kinds(source) == ["line 1: spans", "line 2: single", "line 2: tokens"]


REGISTERING = [path for path in all_notebooks() if "register_kind(" in path.read_text(encoding="utf-8")
               or "@register_kind" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("notebook", REGISTERING, ids=lambda path: path.stem)
def test_a_notebook_leaves_the_kinds_as_they_were(notebook):
    """nbdev_test runs many notebooks in one process; these register kinds of their own."""
    before = dict(KINDS)
    passed, _ = PLAIN_TEST(notebook)
    assert passed and before == KINDS and {kind.__module__.partition(".")[0] for kind in KINDS.values()} == {"tinybert_nb"}


def test_a_name_of_the_package_is_refused_before_its_kinds_are_imported():
    """In a fresh process: the kind from outside is blamed, and the package's stays."""
    program = '''
from tinybert_nb.data.task_form import TaskForm
from tinybert_nb.data.task_kinds import TaskKind, register_kind
try:
    register_kind(type("Spans", (TaskKind,), {"problem": "spans"}))
except ValueError as error:
    print(error)
print(type(TaskForm(problem="spans").kind).__name__)
'''
    said = succeeded(run_command(sys.executable, "-c", program)).stdout.splitlines()
    assert said[0].startswith("problem 'spans' of Spans is empty or in use") and said[1:] == ["QuestionAnswering"]
