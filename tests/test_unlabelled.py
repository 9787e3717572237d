"""Texts without labels, and soft labels from files, as commands: every kind of task, every mistake."""

import json
import random

import pytest

from conftest import history_rows, succeeded, tinybert_nb
from test_tasks import KINDS, SMALL, films
from tinybert_nb.data.labels import scan_labels
from tinybert_nb.data.task_form import TaskForm

FAST = ["--no-baseline", "--baselines", "none"]


def write_lines(path, rows) -> str:
    """JSON lines, or lines of text."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def labelled(count: int, seed: int = 0) -> list[dict]:
    return [{"text": text, "label": label} for text, label in films(random.Random(seed), count)]


def training_losses(run, name: str = "loss") -> list[float]:
    return [row[name] for row in history_rows(run) if row["split"] == "train"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_reads_texts_without_labels(kind, small_teacher, tmp_path):
    """The second file's own labels are not read; with gold labels weighted, only the first counts."""
    write, name, options, metric = KINDS[kind]
    write(tmp_path / name, random.Random(0), 60)
    write(more := tmp_path / f"more-{name}", random.Random(1), 90)
    text = more.read_text(encoding="utf-8")  # the same few texts of people and towns again, but for a word
    more.write_text(text.replace("visits", "meets").replace("spring", "autumn"), encoding="utf-8")
    out = tmp_path / "run"
    told = succeeded(tinybert_nb(
        "distill", "--train", tmp_path / name, *options, *SMALL, *FAST, "--teacher", small_teacher, "--out", out,
        "--unlabelled", more, "--stage-two.gold-weight", "1", "--stage-two.history-every", "1"))
    results = [json.loads((out / stage / "result.json").read_text(encoding="utf-8"))
               for stage in ("teacher", "stage-one", "stage-two")]
    teacher, one, both = (result["rows_seen"] for result in results)
    assert one > teacher and both == 2 * one  # the teacher reads the labelled rows only
    assert all(value >= 0 for value in training_losses(out / "stage-two", "gold"))
    assert "unlabelled" in (out / "stage-one/settings.json").read_text(encoding="utf-8")
    assert metric.split("_")[0] in told.stdout.lower()


def test_a_ratio_draws_some_of_the_texts(small_teacher, tmp_path):
    train = write_lines(tmp_path / "train.jsonl", labelled(40))
    dev = write_lines(tmp_path / "dev.jsonl", labelled(20, 2))
    texts = write_lines(tmp_path / "pile.txt", [row["text"] for row in labelled(300, 1)])
    out = tmp_path / "run"
    succeeded(tinybert_nb("distill", "--train", train, "--eval", dev, "--unlabelled", texts, "--unlabelled-ratio", "2.5",
                          *SMALL, *FAST, "--teacher", small_teacher, "--out", out))
    assert json.loads((out / "stage-one/result.json").read_text(encoding="utf-8"))["rows_seen"] == 40 + 100


@pytest.mark.parametrize("choice, rows", [("drop", 54), ("use", 84)])
def test_rows_without_a_label_are_refused_dropped_or_used(choice, rows, small_teacher, tmp_path):
    some = labelled(60) + [{"text": f"{row['text']}, again"} for row in labelled(30, 1)]
    train, out = write_lines(tmp_path / "half.jsonl", some), tmp_path / "run"
    refused = tinybert_nb("distill", "--train", train, *SMALL, "--teacher", small_teacher, "--out", out)
    assert refused.returncode == 1 and "30 bad lines" in refused.stderr
    assert "Rows without a label: 30. Set unlabelled_rows to drop them" in refused.stderr and not out.exists()
    told = succeeded(tinybert_nb("distill", "--train", train, "--unlabelled-rows", choice, *SMALL, *FAST,
                                 "--teacher", small_teacher, "--out", out))
    assert "30 of 90 rows have no label" in told.stderr
    assert json.loads((out / "stage-one/result.json").read_text(encoding="utf-8"))["rows_seen"] == rows


def test_a_fine_tuned_teacher_and_texts_are_enough(teacher_run, small_data, tmp_path):
    lines = small_data["train"].read_text(encoding="utf-8").splitlines()
    texts, out = write_lines(tmp_path / "texts.txt", [line.rsplit("\t", 1)[0] for line in lines] * 2), tmp_path / "run"
    told = succeeded(tinybert_nb(
        "distill", "--unlabelled", texts, "--teacher", teacher_run / "best", *SMALL, *FAST, "--out", out,
        "--eval", small_data["eval"], "--json", tmp_path / "rows.json"))
    assert "teacher" in told.stdout and not (out / "teacher").exists()
    assert "labels the texts of" in told.stderr and "train rows, once" not in told.stderr  # asked once
    assert [row["system"] for row in json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))] == [
        "majority", "teacher", "2l-48-12h distilled"]


def write_soft_labels(path, rows, names) -> str:
    """Nearly certain, and right."""
    return write_lines(path, [{"text": row["text"], "probabilities": {
        name: 0.9 if name == row["label"] else 0.1 / (len(names) - 1) for name in names}} for row in rows])


def test_stage_two_learns_soft_labels_without_a_teacher(small_teacher, tmp_path):
    rows = labelled(60)
    train, soft = write_lines(tmp_path / "train.jsonl", rows), write_soft_labels(tmp_path / "soft.jsonl", rows, ["bad", "good"])
    names, out = scan_labels(train, TaskForm()), tmp_path / "run"
    assert names == ["bad", "good"]
    succeeded(tinybert_nb("stage-two", "--train", train, "--soft-labels", soft, "--student", small_teacher, "--out", out,
                          "--steps", "80", "--learning-rate", "3e-3", "--history-every", "1"))
    losses = training_losses(out)
    assert losses[0] > 0.6 and min(losses) < 0.5  # from log 2 towards the entropy of 0.9 and 0.1, 0.33
    saved = json.loads((out / "best/config.json").read_text(encoding="utf-8"))
    assert [*saved["id2label"].values()] == names


def test_soft_labels_replace_the_logits_of_the_teacher_of_stage_one(small_teacher, tmp_path):
    rows = labelled(60)
    train, soft = write_lines(tmp_path / "train.jsonl", rows), write_soft_labels(tmp_path / "soft.jsonl", rows, ["bad", "good"])
    out = tmp_path / "run"
    told = succeeded(tinybert_nb("distill", "--train", train, "--stage-two.soft-labels", soft, *SMALL, *FAST,
                                 "--teacher", small_teacher, "--out", out))
    assert "computing teacher logits for 54 train rows" not in told.stderr
    assert "soft.jsonl" in (out / "stage-two/settings.json").read_text(encoding="utf-8")


def test_each_road_names_its_mistakes(small_teacher, tmp_path):
    rows = labelled(60)
    train, texts = write_lines(tmp_path / "train.jsonl", rows), write_lines(tmp_path / "pile.txt", ["a film"])
    other = write_soft_labels(tmp_path / "other.jsonl", labelled(60, 5), ["bad", "good"])
    names = write_soft_labels(tmp_path / "names.jsonl", rows, ["bad", "great"])
    wide = write_lines(tmp_path / "wide.csv", ["text,note", "a film,fine"])
    common = ["--train", train, "--student", small_teacher, "--out", tmp_path / "run"]
    for words, message in (
            (["finetune", "--train", train, "--unlabelled", texts], "no option --unlabelled"),
            (["stage-two", *common], "there is no teacher: name its checkpoint folder"),
            (["stage-two", *common, "--soft-labels", other], "training rows have no soft label, such as"),
            (["stage-two", *common, "--soft-labels", names], "unknown class 'great'; known are bad, good"),
            (["stage-two", *common, "--soft-labels", wide], "has none of logits, probabilities"),
            (["stage-two", *common, "--soft-labels", tmp_path / "no.jsonl"], "no.jsonl: cannot be read"),
            (["distill", "--train", train, "--unlabelled", wide, "--text", "words"], "no column 'words'"),
            (["distill", "--unlabelled", texts], "weights that must not be random"),
            (["distill"], "give a training file (--train), or texts without labels"),
            (["stage-two", "--unlabelled", texts, "--student", small_teacher], "without a teacher, nothing labels texts")):
        told = tinybert_nb(*words)
        assert told.returncode != 0 and message in told.stderr.replace("\n", " "), (words, told.stderr)
        assert "Traceback" not in told.stderr
    assert not (tmp_path / "run").exists()
