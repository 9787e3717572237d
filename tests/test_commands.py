"""The commands on small data, as a user types them: each stage, the recipe, the demo."""

import json
import math

import pytest

from conftest import (
    SMALL_STUDENT,
    Page,
    checkpoint_times,
    history_rows,
    result_rows,
    succeeded,
    tinybert_nb,
)

KINDS = ("majority", "teacher", "baseline", "distilled")
STAGES = ("finetune", "stage-one", "stage-two")


def assert_complete(run):
    """A run folder holds both checkpoints, its settings and a history of finite numbers."""
    for name in ("best", "last"):
        assert (run / name / "model.safetensors").stat().st_size > 0
        assert json.loads((run / name / "config.json").read_text())["model_type"] == "bert"
    assert json.loads((run / "settings.json").read_text())
    rows = history_rows(run)
    assert {"train", "dev"} <= {row["split"] for row in rows}
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert numbers and all(math.isfinite(number) for number in numbers)
    assert not [path for path in run.rglob("*") if path.suffix in {".pt", ".pkl", ".bin"}]


def assert_four_kinds(rows):
    """The table has four kinds of rows: an accuracy in each, a size where there is a model."""
    for kind in KINDS:
        assert [row for row in rows if kind in row["system"].lower()], f"no row of the kind {kind}"
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    models = [row for row in rows if "majority" not in row["system"].lower()]
    assert all(row["parameters"] > 0 and row["latency_ms_batch_1"] > 0 for row in models)
    teachers = [row["parameters"] for row in models if "teacher" in row["system"].lower()]
    students = [row["parameters"] for row in models if "distilled" in row["system"].lower()]
    assert max(students) < min(teachers)


# Each stage alone -------------------------------------------------------------------------------


def test_help_names_every_command():
    said = succeeded(tinybert_nb("--help")).stdout
    assert [name for name in ("data", "demo", "distill", *STAGES) if name not in said] == []


def test_finetune_leaves_a_complete_run(teacher_run):
    assert_complete(teacher_run)
    labels = json.loads((teacher_run / "best" / "config.json").read_text())["id2label"]
    assert sorted(labels.values()) == ["negative", "positive"]


def test_stage_one_leaves_a_complete_run_and_names_its_terms(stage_one_run):
    assert_complete(stage_one_run)
    terms = {name for row in history_rows(stage_one_run) for name in row}
    assert [
        word
        for word in ("embedding", "hidden", "attention")
        if not any(word in name for name in terms)
    ] == []


def test_stage_two_goes_on_from_stage_one(small_data, teacher_run, stage_one_run, tmp_path):
    succeeded(
        tinybert_nb(
            "stage-two",
            "--train",
            small_data["train"],
            "--eval",
            small_data["eval"],
            "--teacher",
            teacher_run / "best",
            "--student",
            stage_one_run / "best",
            "--out",
            tmp_path / "run",
            "--epochs",
            "1",
            "--batch-size",
            "16",
        )
    )
    assert_complete(tmp_path / "run")
    assert any("prediction" in name for row in history_rows(tmp_path / "run") for name in row)


# The whole recipe -------------------------------------------------------------------------------


def test_distill_runs_all_stages_and_writes_the_table(small_data, small_teacher, tmp_path):
    out = tmp_path / "run"
    short = [
        word
        for stage in STAGES
        for word in (f"--{stage}.epochs", "1", f"--{stage}.batch-size", "16")
    ]
    succeeded(
        tinybert_nb(
            "distill",
            "--train",
            small_data["train"],
            "--eval",
            small_data["eval"],
            "--teacher",
            small_teacher,
            "--student",
            SMALL_STUDENT,
            "--out",
            out,
            "--json",
            tmp_path / "rows.json",
            "--stage-one.any-teacher",  # its weights are random
            *short,
        )
    )
    assert result_rows(tmp_path / "rows.json") == result_rows(out / "results.json")
    for name in ("teacher", "stage-one", "stage-two"):
        assert_complete(out / name)
    assert_four_kinds(result_rows(out / "results.json"))


# The demo ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What a demo of seconds was asked, with a small teacher; its folder; and what it said."""
    from tinybert_nb.models.initialization import save_random_model

    folder = tmp_path_factory.mktemp("runs")
    teacher = save_random_model(folder / "teacher", "4l-192-12h")
    words = ["demo", "--preset", "tiny", "--teacher", teacher, "--out", folder / "demo"]
    return words, folder / "demo", succeeded(tinybert_nb(*words)).stdout


def test_demo_writes_the_table_and_prints_it(demo):
    _, out, said = demo
    assert_four_kinds(result_rows(out / "results.json"))
    assert [kind for kind in KINDS if kind not in said.lower()] == []


def test_demo_says_how_long_it_takes_and_where_the_report_is(demo):
    _, out, said = demo
    assert "second" in said or "minute" in said
    assert str(out / "report.html") in said


def test_report_is_self_contained(demo):
    text = (demo[1] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    for tag in ("script", "iframe", "object", "embed", "base", "form"):
        assert page.named(tag) == []
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    loaded = [
        attributes[name]
        for tag, attributes in page.tags
        if tag != "a"
        for name in ("src", "href", "srcset", "data", "poster")
        if name in attributes
    ]
    assert [each[:60] for each in loaded if not (each.startswith("data:image/") or each == "data:,")] == []  # no icon
    assert [
        entry for entry in page.named("a") if entry.get("href", "#").startswith("javascript:")
    ] == []
    assert "url(" not in page.styles and "@import" not in page.styles
    assert len(page.named("img")) >= 2, "the attention of teacher and student is shown"
    assert len(page.named("table")) >= 1
    policies = [
        entry["content"]
        for entry in page.named("meta")
        if entry.get("http-equiv", "").lower() == "content-security-policy"
    ]
    assert len(policies) == 1 and "default-src 'none'" in policies[0]


def test_second_demo_goes_on_from_the_finished_steps_and_makes_a_lost_report_again(demo, tmp_path):
    words, out, _ = demo
    (out / "report.html").unlink()
    times, rows = checkpoint_times(out), result_rows(out / "results.json")
    assert times, "the first demo left no checkpoint"
    kept = tmp_path / "rows.json"
    succeeded(tinybert_nb(*words, "--json", kept))
    assert checkpoint_times(out) == times
    assert result_rows(out / "results.json") == rows == result_rows(kept)
    assert (out / "report.html").stat().st_size > 0
