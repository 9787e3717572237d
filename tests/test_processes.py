"""Several processes do the work of one, and come to the same result."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import SHORT, SMALL_STUDENT, history_rows, run_command, succeeded, together
from tinybert_nb.training.checkpoint import saved_states
from uneven_processes import share_precision, train_unevenly, train_watched


@pytest.fixture(scope="module")
def shared_run(small_data, teacher_run, tmp_path_factory) -> Path:
    """A run folder of the stage one that `stage_one_run` has made, by two processes."""
    out = tmp_path_factory.mktemp("processes") / "run"
    words = ["stage-one", "--train", small_data["train"], "--eval", small_data["eval"]]
    words += ["--teacher", teacher_run / "best", "--student", SMALL_STUDENT, "--out", out, *SHORT]
    succeeded(
        run_command(
            *[Path(sys.executable).parent / "accelerate", "launch", "--cpu", "--num_processes", "2"],
            *["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"],
            *["--main_process_port", "29731", "--no_python"],
            Path(sys.executable).parent / "tinybert-nb",
            *words,
            *["--seed", "7", "--any-teacher"],
        )
    )
    return out


def test_two_processes_train_the_same_student(shared_run, stage_one_run):
    one, two = (load_file(run / "last/model.safetensors") for run in (stage_one_run, shared_run))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_two_processes_write_one_history(shared_run, stage_one_run):
    one, two = history_rows(stage_one_run), history_rows(shared_run)
    assert [(row["split"], row["step"]) for row in one] == [
        (row["split"], row["step"]) for row in two
    ]
    for first, second in zip(one, two):
        assert first.keys() == second.keys()
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert json.loads((shared_run / "result.json").read_text())["metric"] == "loss"


def test_the_precision_of_the_first_process_counts_for_all(tmp_path):
    together(share_precision, tmp_path)
    found = [(tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert found == ["bf16, 2 processes"] * 2


def test_what_the_first_process_measures_counts_for_all(tmp_path):
    """Rank 0 finds no progress, rank 1 a billionth at each evaluation: both end after patience."""
    together(train_unevenly, tmp_path)
    first, second = ((tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    measured = [row for row in history_rows(tmp_path) if row["split"] == "dev"]
    assert [(row["step"], row["loss"]) for row in measured] == [(n, 1.0) for n in (1, 2, 3, 4)]


def test_the_watcher_of_the_first_process_ends_all(tmp_path):
    """All end with an evaluation after the same update; all save their state if it fails."""
    together(train_watched, tmp_path)
    first, second = ((tmp_path / f"watched-{rank}.txt").read_text() for rank in (0, 1))
    assert first == "('dev', 3) KeyError" and second == "('dev', 3) RuntimeError"
    assert [path.name for path in saved_states(tmp_path / "failed")] == ["step-00000001.safetensors"]
