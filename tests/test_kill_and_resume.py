"""Runs that are killed or stopped, and started again, end as if nothing had happened."""

import json
import random
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import ROOT, SHORT, SMALL_STUDENT, history_rows, run_command, started, succeeded
from forked_commands import Forked

KILLS = 9


def content(folder: Path) -> dict[str, str]:
    """What a run leaves: the SHA-256 of its weights and of its history."""
    names = ("last/model.safetensors", "best/model.safetensors", "history.jsonl")
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, dict]:
    """The folder of runs that were killed at random moments, and the story of the kills."""
    folder, seed = tmp_path_factory.mktemp("killed"), random.SystemRandom().randrange(10**6)
    print(f"seed of the kills: {seed}")
    script = ROOT / "tests" / "kill_runs.py"
    return folder, json.loads(
        succeeded(run_command(sys.executable, script, folder, seed, KILLS)).stdout
    )


def test_killed_runs_end_with_the_same_weights_and_history(killed):
    folder, story = killed
    expected = content(folder / "whole")
    assert {run["folder"]: content(folder / run["folder"]) for run in story["runs"]} == {
        run["folder"]: expected for run in story["runs"]
    }, story


def test_the_kills_were_many_and_hit_runs_in_the_middle(killed):
    _, story = killed
    kills = [kill for run in story["runs"] for kill in run["kills"]]
    at_random = [updates for place, updates in kills if place == "random moment"]
    in_a_save = [updates for place, updates in kills if place != "random moment"]
    assert len(kills) >= KILLS and len(at_random) >= 3 and len(in_a_save) >= 4, story
    assert any(0 < updates < 15 for updates in at_random + in_a_save), story


def test_nothing_half_written_is_left(killed):
    folder, story = killed
    for run in story["runs"]:
        left = [path.name for path in (folder / run["folder"]).rglob(".*") if path.is_file()]
        assert left == [], left


# The command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command(small_data, teacher_run):
    """Start a stage one of 24 updates that saves a state after each, and leave it running."""

    def start(out: Path) -> Forked:
        words = ["--train", small_data["train"], "--eval", small_data["eval"], "--out", out, *SHORT]
        words += ["--teacher", teacher_run / "best", "--student", SMALL_STUDENT, "--seed", "7"]
        words += ["--batch-size", "2", "--checkpoint-seconds", "0", "--any-teacher"]
        return started("stage-one", *words)

    return start


@pytest.fixture(scope="module")
def whole_run(command, tmp_path_factory) -> Path:
    """The run folder of the same command when nothing stops it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = command(out)
    said = process.communicate()
    assert process.returncode == 0, said
    return out


def wait_for_first_state(out: Path, process: Forked) -> None:
    """Until the run has saved a state, or has ended."""
    while process.poll() is None and not list(out.glob("state/step-*.safetensors")):
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_goes_on_to_the_same_end(command, whole_run, tmp_path, number):
    out = tmp_path / "run"
    process = command(out)
    wait_for_first_state(out, process)
    process.send_signal(number)
    said = "".join(process.communicate())
    if number == signal.SIGKILL:
        assert process.returncode == -number, said
    else:
        assert process.returncode == 128 + number, said
        assert "goes on from there" in said and "Traceback" not in said
    assert not (out / "result.json").exists()
    again = command(out)
    assert "going on after update" in "".join(again.communicate())
    assert again.returncode == 0
    assert history_rows(out) == history_rows(whole_run)
    same = [folder / "last/model.safetensors" for folder in (out, whole_run)]
    assert same[0].read_bytes() == same[1].read_bytes()
