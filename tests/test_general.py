"""General distillation by command: one process and two, then a task from where it ended."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import (
    ROOT, SHORT, SMALL_STUDENT, TRAIN, command_environment, history_rows, succeeded, tinybert_nb)

BRIEF = ["--steps", "6", "--batch-size", "4", "--length", "32", "--held-out-sequences", "8"]
BRIEF += ["--history-every", "2", "--evaluate-every", "3", "--seed", "3", "--precision", "no"]

PROGRAM = Path(sys.executable).parent / "tinybert-nb"


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


def agents(command: list, port: int) -> list[subprocess.Popen]:
    """A command on two machines, as far as torchrun knows: each has an agent and one process."""
    launch = [Path(sys.executable).parent / "torchrun", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--master-addr", "127.0.0.1", "--master-port", str(port), "--no-python"]
    return [subprocess.Popen([*launch, "--node-rank", str(rank), *command], cwd=ROOT,
                             env=command_environment(), stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.STDOUT) for rank in (0, 1)]


def test_two_machines_with_the_same_global_batch_have_the_same_losses(words, alone, tmp_path):
    both = agents([PROGRAM, *words(tmp_path / "run")], 29741)
    said = [each.communicate(timeout=600)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    one, two = history_rows(alone), history_rows(tmp_path / "run")
    assert len(one) == len(two)
    for first, second in zip(one, two):
        assert first.keys() == second.keys()
        for name, value in first.items():
            expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-4)
            assert second[name] == expected, name


def test_a_machine_that_is_lost_ends_the_run_which_goes_on_with_the_other(words, tmp_path):
    run = tmp_path / "run"
    longer = [*words(run), "--steps", "400", "--evaluate-every", "10", "--streaming"]
    first, second = agents([PROGRAM, *longer], 29743)
    while not [*run.glob("state/step-*")]:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    for process in [*psutil.Process(second.pid).children(recursive=True), second]:
        process.kill()
    said = first.communicate(timeout=600)[0]
    second.communicate()
    done = json.loads((run / "progress.json").read_text())
    assert first.returncode != 0 and done["state"] == "failed" and done["step"] < 400, said
    again = succeeded(tinybert_nb(*longer))
    assert "going on after update" in again.stderr and "processes 1 instead of 2" in again.stderr
    assert history_rows(run)[-1]["step"] == 400


READ_A_STREAM = """
import json, sys
from itertools import islice
from tinybert_nb.data.encoding import fingerprint
from tinybert_nb.data.streaming import StreamedBatches
from tinybert_nb.data.task_form import DataError
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.training.processes import processes

rank, (corpus, teacher) = processes().process_index, sys.argv[1:]
tokenizer = load_tokenizer(teacher)
stream = StreamedBatches(corpus, tokenizer, 8, length=16, block_tokens=400, readers=3)
rows = [batch["input_ids"].tolist() for batch in islice(stream, 50)]
try:
    next(iter(StreamedBatches([["a film"], 5], tokenizer, readers=2)))
except DataError as error:
    print(json.dumps([rank, fingerprint(rows), stream.unknown.tokens, str(error)]))
"""


def test_machines_share_the_tokenizing_of_a_stream(corpus, small_teacher):
    script = [sys.executable, "-c", READ_A_STREAM, corpus, small_teacher]
    run = {"cwd": ROOT, "env": command_environment(), "text": True, "check": True}
    _, lines, tokens, message = json.loads(
        subprocess.run(script, stdout=subprocess.PIPE, **run).stdout)
    both = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1])
            for process in agents(script, 29745)]
    assert [rank for rank, *_ in both] == [0, 1]
    assert all(found == lines and said == message for _, found, _, said in both)
    assert "document 1 (from 0) is a int" in message
    first, second = (done for _, _, done, _ in both)
    assert first + second == tokens and 0.2 < second / tokens < 0.45  # one of three readers


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
