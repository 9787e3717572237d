"""Stored traces of a teacher: the same losses, whoever computed them, in however many goes."""

import threading
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from conftest import history_rows
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.models.loading import load_classifier, save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.models.trace import Trace
from tinybert_nb.models.trace_files import TraceFiles, TraceLayout, read_traces
from tinybert_nb.recipes.general_distillation import distill_general
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.training import trace_cache
from tinybert_nb.training.settings import GeneralSettings, StageOneSettings

BRIEF = {"epochs": 3, "max_length": 32, "batch_size": 16, "any_teacher": True, "history_every": 1}


@pytest.fixture(scope="module")
def teacher(small_teacher, tmp_path_factory) -> Path:
    """A classifier with random weights; its classes have the names of the small data."""
    tokenizer, folder = load_tokenizer(small_teacher), tmp_path_factory.mktemp("classifier")
    save_checkpoint(folder / "teacher", load_classifier(small_teacher, ["negative", "positive"], fresh_head=True), tokenizer)
    return folder / "teacher"


@pytest.fixture(autouse=True)
def own_traces(tmp_path):
    """Each test begins without stored traces; other data stay where they are."""
    with patch.object(trace_cache, "data_folder", lambda: tmp_path):
        yield tmp_path / "traces"


def run(small_data, teacher: Path, out: Path, **settings) -> list[dict]:
    """The history of a stage one of three epochs."""
    stage_one(TaskFiles(small_data["train"], small_data["eval"]), teacher, "2l-48-12h", out, StageOneSettings(**BRIEF | settings))
    return [{name: value for name, value in row.items() if name not in ("time", "seconds")} for row in history_rows(out)]


def far(one: list[dict], other: list[dict]) -> float:
    """The largest relative difference of two histories of one form."""
    assert len(one) == len(other) > 9
    return max(abs(a[name] - b[name]) / abs(a[name]) for a, b in zip(one, other) for name in a
               if isinstance(a[name], float) and a[name])


def test_training_on_stored_traces_is_training_on_the_teacher(small_data, teacher, tmp_path):
    asked = run(small_data, teacher, tmp_path / "no", trace_cache="no")
    assert far(asked, run(small_data, teacher, tmp_path / "float32", trace_cache="float32")) < 1e-3
    assert 0 < far(asked, run(small_data, teacher, tmp_path / "auto")) < 0.01


def test_accumulation_and_another_seed_read_the_same_traces(small_data, teacher, tmp_path, own_traces):
    whole = run(small_data, teacher, tmp_path / "whole")
    made = {path: path.stat().st_mtime_ns for path in own_traces.glob("*/state-*")}
    assert made
    assert far(whole, run(small_data, teacher, tmp_path / "parts", accumulation=4)) < 1e-3
    run(small_data, teacher, tmp_path / "seed", seed=1)
    assert {path: path.stat().st_mtime_ns for path in own_traces.glob("*/state-*")} == made


def test_stopped_while_storing(small_data, teacher, tmp_path):
    """What is stored stays, is not computed again, and the run is as if nothing had happened."""
    expected, calls, real = run(small_data, teacher, tmp_path / "whole", seed=3), [], trace_cache.write_traces
    for path in (tmp_path / "traces").glob("*/*"):
        path.unlink()

    def write(files, rows, trace):
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(files, rows, trace)

    with patch.object(trace_cache, "write_traces", write):
        with pytest.raises(KeyboardInterrupt):
            run(small_data, teacher, tmp_path / "stopped", seed=3)
        assert run(small_data, teacher, tmp_path / "stopped", seed=3) == expected
    assert len(calls) > 2 and calls[0] + sum(calls[2:]) == 68  # each row once, without duplicates


class Ranks(threading.local):
    """As `processes()` in each of two threads."""

    num_processes, process_index, device, barrier = 2, 0, torch.device("cpu"), threading.Barrier(2)

    @property
    def is_main_process(self):
        return self.process_index == 0

    def wait_for_everyone(self):
        self.barrier.wait(60)


def store_together(files: list[TraceFiles], targets, batches, dies: bool = False) -> list[list[int]]:
    """The rows that each of two ranks asks for; if `dies`, rank 1 ends before its first row."""
    ranks, asked, began = Ranks(), [[], []], threading.Event()

    def work(rank: int):
        ranks.process_index = rank

        def ask(batch):
            if dies and rank == 1:
                began.wait(60)  # else the other would not have come beyond the barrier
                ranks.barrier.abort()
                raise threading.BrokenBarrierError
            began.set()
            asked[rank].extend(batch["row"].tolist())
            return targets(batch)

        with suppress(threading.BrokenBarrierError):
            trace_cache.store_missing(files[rank], ask, batches)

    with patch.object(trace_cache, "processes", lambda: ranks):
        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return asked


@pytest.mark.parametrize("dies", [False, True])
def test_each_process_asks_for_its_share_and_a_lost_share_is_made_up(dies, tmp_path):
    lengths = [4] * 24
    batches = [{"row": torch.arange(start, start + 3), "attention_mask": torch.ones(3, 4, dtype=torch.long)} for start in range(0, 24, 3)]
    layout = TraceLayout((0,), (), hidden=2, heads=0, head_size=0)

    def targets(batch):
        return Trace((batch["row"][:, None, None] * torch.ones(1, 4, 2),), (), (), None, batch["attention_mask"])

    Ranks.barrier.reset()
    files = [TraceFiles(tmp_path / "traces", layout, lengths) for _ in range(2)]
    first, second = store_together(files, targets, batches, dies)
    odd = {row for row in range(24) if row // 3 % 2}
    assert {*first} == {*range(24)} - odd and {*second} == (set() if dies else odd)
    if dies:
        Ranks.barrier.reset()
        first, second = store_together(files, targets, batches)
        assert {*first} | {*second} == odd and len(first) == len(second) == 6
    assert files[0].stored().all()
    read = read_traces(files[1], batches[5])
    assert read.hidden_states[0][:, 0, 0].tolist() == [15, 16, 17]


def test_general_distillation_of_several_epochs(small_teacher, tmp_path, own_traces):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"a film of {number} scenes, each longer than the last.\n\n" for number in range(400)))
    brief = {"epochs": 3, "batch_size": 8, "length": 32, "held_out_sequences": 16, "history_every": 1}
    histories = []
    for name in ("no", "float32"):
        distill_general(text, small_teacher, "2l-48-12h", tmp_path / name, GeneralSettings(**brief, trace_cache=name))
        histories.append([{key: value for key, value in row.items() if key not in ("time", "seconds")} for row in history_rows(tmp_path / name)])
    assert far(*histories) < 1e-3 and list(own_traces.glob("*/stored"))


def test_epochs_that_differ_ask_the_teacher(small_teacher, tmp_path, own_traces):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"a film of {number} scenes.\n\n" for number in range(400)))
    brief = {"epochs": 2, "batch_size": 8, "length": 32, "held_out_sequences": 16}
    for number, changes in enumerate(({"masking": "bert"}, {"short_fraction": 0.5})):
        distill_general(text, small_teacher, "2l-48-12h", tmp_path / str(number), GeneralSettings(**brief, **changes))
    assert not own_traces.exists()
