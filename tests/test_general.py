"""General distillation by command: one process and two, then a task from where it ended."""

import json
import sys
from pathlib import Path

import pytest

from conftest import (
    SHORT,
    SMALL_STUDENT,
    TRAIN,
    history_rows,
    run_command,
    succeeded,
    tinybert_nb,
)

BRIEF = ["--steps", "6", "--batch-size", "4", "--length", "32", "--held-out-sequences", "8"]
BRIEF += ["--history-every", "2", "--evaluate-every", "3", "--seed", "3"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The committed sentences as plain text, a document each."""
    sentences = [line.split("\t")[0] for line in TRAIN.read_text(encoding="utf-8").splitlines()]
    path = tmp_path_factory.mktemp("corpus") / "sentences.txt"
    path.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def words(corpus, small_teacher):
    """A function: the words of the command that writes a run into the given folder."""

    def call(out: Path) -> list:
        files = ["--corpus", corpus, "--held-out", corpus, "--out", out]
        return ["general", *files, "--teacher", small_teacher, "--student", SMALL_STUDENT, *BRIEF]

    return call


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory) -> Path:
    """A run folder of general distillation, by one process."""
    out = tmp_path_factory.mktemp("general") / "run"
    succeeded(tinybert_nb(*words(out)))
    return out


def test_the_student_comes_nearer_to_its_teacher(alone):
    looks = [row for row in history_rows(alone) if row["split"] == "dev"]
    assert [row["step"] for row in looks] == [3, 6]
    for term in ("embedding", "hidden", "attention", "loss"):
        assert looks[1][term] < looks[0][term]


def test_two_processes_with_the_same_global_batch_have_the_same_losses(words, alone, tmp_path):
    launch = [Path(sys.executable).parent / "accelerate", "launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "29741", "--no_python"]
    command = Path(sys.executable).parent / "tinybert-nb"
    succeeded(run_command(*launch, command, *words(tmp_path / "run")))
    one, two = history_rows(alone), history_rows(tmp_path / "run")
    assert len(one) == len(two)
    for first, second in zip(one, two):
        assert first.keys() == second.keys()
        for name, value in first.items():
            expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-4)
            assert second[name] == expected, name


def test_a_task_goes_on_from_the_general_student(alone, small_data, teacher_run, tmp_path):
    files = ["--train", small_data["train"], "--eval", small_data["eval"], *SHORT]
    stage = ["stage-one", *files, "--teacher", teacher_run / "best", "--any-teacher"]
    succeeded(tinybert_nb(*stage, "--student", alone / "last", "--out", tmp_path / "one"))
    made_from = json.loads((tmp_path / "one/settings.json").read_text())["call"]["arguments"]
    assert made_from["student"] == str(alone / "last")
    assert (tmp_path / "one/last/projections.safetensors").exists()


def test_a_made_run_is_made_again(alone, tmp_path):
    said = succeeded(tinybert_nb("rerun", alone, "--out", tmp_path / "again")).stdout
    assert "the same history" in said
