"""What a figure is of, and what it cost: positive classes, budgets, dev sets, answers without spaces."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import BertConfig, BertForSequenceClassification, BertModel

from conftest import TEACHER, history_rows, small_tokenizer
from tinybert_nb.cli.arguments import UsageError
from tinybert_nb.cli.commands import parse_arguments
from tinybert_nb.data.glue import glue_form
from tinybert_nb.data.splits import TaskFiles, ensure_dev_split
from tinybert_nb.data.task_form import TaskForm
from tinybert_nb.evaluation.measurement import evaluate, training_record
from tinybert_nb.evaluation.scoreboard import Entry, score, scoreboard
from tinybert_nb.models.loading import save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.task_data import load_task, note_labels
from tinybert_nb.recipes.task_distillation import distill
from tinybert_nb.training.rerun import rerun
from tinybert_nb.training.settings import (
    DistillSettings, FinetuneSettings, StageOneSettings, StageTwoSettings)

TINY = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


# Which class the F1 is of ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def duplicates(tmp_path_factory, tokenizer):
    """Pairs as GLUE's files have them and as the hub's copy has them, and a model of either kind."""
    folder = tmp_path_factory.mktemp("duplicates")
    words = ["slow", "dull", "warm", "late", "loud", "cold", "dark"]
    pairs = [(f"a {words[n % 7]} film", f"the {words[n % 5]} film number {n}", int(n % 4 == 0)) for n in range(40)]
    head = "#1 String\t#2 String\tQuality\n"
    (folder / "dev.tsv").write_text(head + "".join(f"{one}\t{other}\t{label}\n" for one, other, label in pairs))
    names = ["not_equivalent", "equivalent"]
    features = Features({"sentence1": Value("string"), "sentence2": Value("string"), "label": ClassLabel(names=names)})
    columns = dict(zip(features, map(list, zip(*pairs))))
    Dataset.from_dict(columns, features).save_to_disk(folder / "hub")
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=2, **TINY))
    model.classifier.weight.data *= 100
    for kind, order in (("files", ["0", "1"]), ("hub", names), ("sorted", names[::-1])):
        if kind == "sorted":  # the same answers, its classes numbered by the alphabet
            model.classifier.weight.data = model.classifier.weight.data.flip(0)
            model.classifier.bias.data = model.classifier.bias.data.flip(0)
        model.config.id2label, model.config.label2id = dict(enumerate(order)), {name: n for n, name in enumerate(order)}
        save_checkpoint(folder / kind / "best", model, tokenizer)
    return folder


def test_f1_is_of_the_same_class_by_files_and_by_the_hub(duplicates):
    files = duplicates / "dev.tsv", replace(glue_form("MRPC", duplicates), metric="f1")
    hub = f"{duplicates}/hub[train]", replace(glue_form("MRPC", "nyu-mll/glue"), metric="f1")
    unstated = replace(hub[1], positive_class="")
    found = {}
    for name, (path, form), kind in (("files", files, "files"), ("hub", hub, "hub"), ("sorted", hub, "sorted"),
                                     ("unstated", (hub[0], unstated), "sorted")):
        [row] = score([Entry(duplicates / kind / "best", kind)], path, form)
        majority, measured = evaluate({kind: duplicates / kind / "best"}, path, form=form)
        assert measured["f1"] == row["f1"] and measured["positive_class"] == row["positive_class"]
        assert majority["f1"] == 0.0  # three in four are no duplicates
        found[name] = row["f1"], row["low"], row["high"]
        assert f"F1 of `{row['positive_class']}`" in scoreboard([row])
    assert found["files"] == found["hub"] == found["sorted"] == found["unstated"]
    assert found["hub"][1] <= found["hub"][0] <= found["hub"][2]


def test_an_unknown_positive_class_is_told_with_the_choices(duplicates):
    form = replace(glue_form("MRPC", duplicates), positive_class="duplicate")
    with pytest.raises(ValueError, match="positive_class is 'duplicate': choose one of 0, 1"):
        evaluate({"files": duplicates / "files/best"}, duplicates / "dev.tsv", form=form)


# The same budget ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_checkpoint(folder, BertModel(BertConfig(vocab_size=len(tokenizer), **TINY)), tokenizer)
    return folder


@pytest.fixture
def task(tmp_path) -> TaskFiles:
    lines = [f"a {'warm' if n % 2 else 'dull'} film {'with many words ' * (n % 4)}no. {n}\t{n % 2}\n" for n in range(50)]
    (tmp_path / "train.txt").write_text("".join(lines[:40]))
    (tmp_path / "dev.txt").write_text("".join(lines[40:]))
    return TaskFiles(tmp_path / "train.txt", tmp_path / "dev.txt")


BUDGETS = {  # settings of stage one, of stage two -> their updates, and the rows that they read
    "epochs": ({"epochs": 2}, {"epochs": 1}, (2 * 2 + 2, 120)),
    "steps": ({"steps": 5, "batch_size": 20}, {"steps": 3, "batch_size": 10}, (8, 5 * 20 + 3 * 10)),
    "one of both": ({"steps": 5, "batch_size": 20}, {"epochs": 2, "batch_size": 10}, (5 + 8, 100 + 80)),
    "pieces": ({"epochs": 1, "batch_size": 20, "accumulation": 3}, {"epochs": 1, "find_batch_size": True}, (2 + 2, 80)),
    "tokens": ({"epochs": 1, "tokens_per_batch": 200}, {"epochs": 1}, None),
}


@pytest.mark.parametrize("kind", BUDGETS)
def test_the_student_without_distillation_has_the_budget_of_both_stages(kind, teacher, task, tmp_path):
    one, two, expected = BUDGETS[kind]
    recipe = DistillSettings(FinetuneSettings(epochs=1), StageOneSettings(any_teacher=True, **one), StageTwoSettings(**two), baselines="none")
    rows = distill(task, teacher, "1l-24-4h", tmp_path / "run", recipe)
    told = {row["system"].split()[-1]: (row["updates"], row["rows_seen"]) for row in rows[1:]}
    assert told["baseline"] == told["distilled"] and expected in (None, told["baseline"])
    steps = [history_rows(tmp_path / "run" / stage)[-1]["step"] for stage in ("stage-one", "stage-two", "baseline")]
    assert steps[0] + steps[1] == steps[2] == told["baseline"][0]


def test_patience_that_ends_a_stage_shortens_the_budget(teacher, task, tmp_path):
    idle = {"epochs": 50, "patience": 1, "learning_rate": 1e-20}
    recipe = DistillSettings(FinetuneSettings(epochs=1), StageOneSettings(any_teacher=True, **idle), StageTwoSettings(**idle), baselines="none")
    rows = distill(task, teacher, "1l-24-4h", tmp_path / "run", recipe)
    updates = {row["system"].split()[-1]: row["updates"] for row in rows[1:]}
    assert updates["baseline"] == updates["distilled"] < 100


def test_the_budget_names_the_rows_that_each_stage_reads(teacher, task, tmp_path, monkeypatch):
    def three_of_each(files, out, settings):  # stands for augmentation
        lines = Path(files.train).read_text().splitlines(keepends=True)
        (Path(out) / "aug_train.txt").parent.mkdir(parents=True, exist_ok=True)
        (Path(out) / "aug_train.txt").write_text("".join(line.replace("film", f"film {n}") for line in lines for n in range(3)))
        return replace(files, train=Path(out) / "aug_train.txt")

    monkeypatch.setattr("tinybert_nb.recipes.task_distillation.augment_training_file", three_of_each)
    brief = {"epochs": 1, "batch_size": 20}
    recipe = DistillSettings(FinetuneSettings(**brief), StageOneSettings(any_teacher=True, **brief), StageTwoSettings(**brief),
                             augment=True, augment_stage_two=False, baselines="none")
    rows = distill(task, teacher, "1l-24-4h", tmp_path / "run", recipe)
    assert [(row["updates"], row["rows_seen"]) for row in rows[1:]] == [(2, 40), (6 + 2, 120 + 40), (6 + 2, 120 + 40)]
    call = json.loads((tmp_path / "run/baseline/settings.json").read_text())["call"]["arguments"]
    assert [Path(each["files"]["train"]).name for each in (call["before"], call)] == ["aug_train.txt", "train.txt"]
    assert rerun(tmp_path / "run/baseline", tmp_path / "again", {"finetune": finetune}) == []
    assert training_record(tmp_path / "again/best") == training_record(tmp_path / "run/baseline/best")


# Dev sets that are split off, and answers --------------------------------------------------------
def test_the_options_are_read():
    words = ["--positive-class", "spam", "--longest-answer", "60", "--similar-together"]
    command, _ = parse_arguments(["finetune", "--train", "x.csv", *words])
    assert command.form == TaskForm(positive_class="spam", longest_answer=60, similar_together=True)
    with pytest.raises(UsageError, match="longest_answer is 0: it must be at least 1"):
        parse_arguments(["finetune", "--train", "x.csv", "--longest-answer", "0"])


def test_a_data_sets_own_order_outlives_the_split(duplicates):
    """The parts of a split are files; which class was the second is not to be guessed from them."""
    files = ensure_dev_split(TaskFiles(f"{duplicates}/hub[train]", form=TaskForm(metric="f1")))
    assert files.form.positive_class == "equivalent" and Path(files.eval).is_file()
    row = evaluate({"hub": duplicates / "sorted/best"}, files.eval, form=files.form)[1]
    assert row["positive_class"] == "equivalent"


def test_answers_that_can_never_be_given_are_told(tmp_path):
    tokenizer = load_tokenizer(TEACHER)
    long = " ".join(f"word{n}" for n in range(40))
    rows = [{"question": "What?", "context": f"He said {long}.", "answers": [{"text": long, "answer_start": 8}]},
            {"question": "Who?", "context": "He said so.", "answers": [{"text": "He", "answer_start": 0}]}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    form = TaskForm(problem="spans")
    files = TaskFiles(tmp_path / "asked.jsonl", tmp_path / "asked.jsonl", form)
    with pytest.warns(UserWarning, match="2 of 4 answers have more than 30 tokens and can never be predicted: set longest_answer to 8."):
        note_labels(load_task(files, tokenizer, 128))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note_labels(load_task(replace(files, form=replace(form, longest_answer=90)), tokenizer, 128))
