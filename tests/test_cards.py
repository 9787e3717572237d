"""Every model that a command saves has a card, and the card is true and harmless."""

from hashlib import sha256

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from conftest import SHORT, STUDENT, TEACHER, history_rows, succeeded, tinybert_nb


@pytest.fixture(scope="module")
def distilled(small_data, tmp_path_factory):
    """The run folders of `distill` on the small data, with the packaged teacher: it has a licence."""
    out = tmp_path_factory.mktemp("cards") / "run"
    succeeded(tinybert_nb(
        "distill", "--train", small_data["train"], "--eval", small_data["eval"], "--teacher", TEACHER,
        "--student", STUDENT, "--out", out, *SHORT, "--no-baseline", "--stage-one.any-teacher"))
    return out


@pytest.mark.parametrize("stage", ["teacher", "stage-one", "stage-two"])
def test_every_saved_model_has_a_card_that_a_hub_can_read(stage, distilled, small_data):
    run = distilled / stage
    folders = [path.parent for path in run.rglob("model.safetensors")]
    assert {"best", "last"} <= {folder.name for folder in folders}
    for folder in folders:
        card = ModelCard.load(folder / "README.md")
        assert card.data.license == "apache-2.0" and card.data.base_model == TEACHER
        assert card.data.library_name == "transformers"
        for path in small_data.values():
            assert sha256(path.read_bytes()).hexdigest() in card.text
        count = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
        assert f"{count:,} parameters" in card.text
        assert str(run) not in card.text and str(small_data["train"]) not in card.text


def test_the_figures_are_those_of_the_history(distilled):
    stage_one_run = distilled / "stage-one"
    looks = [row for row in history_rows(stage_one_run) if row["split"] == "dev"]
    best = min(looks, key=lambda row: row["loss"])
    for folder, row in (("best", best), ("last", looks[-1])):
        text = (stage_one_run / folder / "README.md").read_text()
        assert f"after update {row['step']} " in text and f"| loss | {row['loss']:.4f} |" in text
        assert f"# {STUDENT}, stage_one, {folder}\n" in text
    assert "before the first update" in (stage_one_run / "start/README.md").read_text()


def test_a_label_cannot_put_markup_on_the_page(small_teacher, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    lines = [f"text {number}\t{('good', hostile)[number % 2]}\n" for number in range(8)]
    (tmp_path / "data.txt").write_text("".join(lines))
    files = ["--train", tmp_path / "data.txt", "--eval", tmp_path / "data.txt"]
    succeeded(tinybert_nb(
        "finetune", *files, "--teacher", small_teacher, "--out", tmp_path / "run", "--epochs", "1"))
    text = (tmp_path / "run/best/README.md").read_text()
    assert "<img" not in text and "onerror" in text
