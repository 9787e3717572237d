"""bfloat16 where it is faster: what runs in it, what is recorded, and what happens elsewhere."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from conftest import history_rows
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.recipes import teacher_logits
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.training import processes, trace_cache
from tinybert_nb.training.settings import FinetuneSettings, StageOneSettings, StageTwoSettings

BRIEF = {"epochs": 2, "max_length": 32, "batch_size": 16, "history_every": 1}


@pytest.fixture(autouse=True)
def own_caches(tmp_path):
    """Each test begins without stored traces and logits."""
    with patch.dict(os.environ, TINYBERT_NB_PRECISION="auto"), \
            patch.object(trace_cache, "data_folder", lambda: tmp_path / "data"), \
            patch.object(teacher_logits, "data_folder", lambda: tmp_path / "data"):
        yield tmp_path / "data"


def times(ratio: float):
    """As if bfloat16 were this many times as fast here."""
    return patch.object(processes, "bf16_speedup", lambda *sizes: ratio)


def distil(small_data, teacher: Path, out: Path, **settings) -> list[float]:
    """The losses of both stages; all settings but those of `BRIEF` are the defaults."""
    files = TaskFiles(small_data["train"], small_data["eval"])
    stage_one(files, teacher, "2l-48-12h", out / "one", StageOneSettings(any_teacher=True, **BRIEF | settings))
    stage_two(files, teacher, out / "one/last", out / "two", StageTwoSettings(**BRIEF | settings))
    return [row["loss"] for run in (out / "one", out / "two") for row in history_rows(run) if "loss" in row]


def precision(run: Path) -> str:
    """What a run records."""
    return json.loads((run / "progress.json").read_text())["precision"]


def test_auto_is_bfloat16_where_that_is_faster(small_data, teacher_run, tmp_path, own_caches):
    losses = {}
    for name, ratio in (("slow", 0.2), ("fast", 3.0)):
        with times(ratio):
            losses[name] = distil(small_data, teacher_run / "best", tmp_path / name)
    for stage in ("one", "two"):
        assert precision(tmp_path / "slow" / stage) == "no"
        assert precision(tmp_path / "fast" / stage) == "bf16"
    assert len(losses["slow"]) > 12 and losses["slow"] != losses["fast"]
    assert losses["fast"] == pytest.approx(losses["slow"], rel=0.02)
    assert len([*own_caches.glob("traces/*")]) == 2  # one for each number format
    assert len([*own_caches.glob("answers/*")]) == 2


def test_a_number_format_that_is_asked_for_is_taken(small_data, teacher_run, tmp_path):
    with times(3.0):
        distil(small_data, teacher_run / "best", tmp_path / "no", precision="no")
    with times(0.2):
        distil(small_data, teacher_run / "best", tmp_path / "bf16", precision="bf16")
    assert (precision(tmp_path / "no/one"), precision(tmp_path / "bf16/two")) == ("no", "bf16")


def test_a_run_goes_on_where_the_other_format_is_faster(small_data, small_teacher, tmp_path, capfd):
    """Its record says so; another format that is asked for is another run."""
    class Interrupt(Exception):
        pass

    def stop(row):
        if row["step"] == 3:
            raise Interrupt

    files, settings = TaskFiles(small_data["train"], small_data["eval"]), FinetuneSettings(evaluations_per_epoch=2, **BRIEF)
    with times(3.0), pytest.raises(Interrupt):
        finetune(files, small_teacher, tmp_path / "run", settings, watch=stop)
    with times(0.2):
        finetune(files, small_teacher, tmp_path / "run", settings)
        assert "with precision no instead of bf16: from here on numbers differ" in capfd.readouterr().err
        assert precision(tmp_path / "run") == "no"
        with pytest.raises(ValueError, match="precision"):
            finetune(files, small_teacher, tmp_path / "run", FinetuneSettings(evaluations_per_epoch=2, precision="bf16", **BRIEF))
