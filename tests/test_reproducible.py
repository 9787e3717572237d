"""The same seed gives the same numbers, another seed gives others."""

from hashlib import sha256
import json

from conftest import history_rows


def numbers(run) -> list[dict]:
    """The history without what the clock says."""
    return [
        {name: value for name, value in row.items() if not name.startswith("seconds")}
        for row in history_rows(run)
    ]


def weights(run) -> str:
    """The SHA-256 of the last weights."""
    return sha256((run / "last" / "model.safetensors").read_bytes()).hexdigest()


def test_same_seed_gives_the_same_history_and_weights(stage_one, stage_one_run):
    again = stage_one("again", "--seed", "7")
    assert numbers(stage_one_run) == numbers(again)
    assert weights(stage_one_run) == weights(again)


def test_another_seed_gives_another_history(stage_one, stage_one_run):
    assert numbers(stage_one("other", "--seed", "8")) != numbers(stage_one_run)


def test_settings_hold_what_makes_the_run_again(stage_one_run):
    settings = (stage_one_run / "settings.json").read_text(encoding="utf-8")
    assert json.loads(settings)
    for word in ('"seed": 7', "torch", "transformers"):
        assert word in settings, f"settings.json does not tell {word}"
