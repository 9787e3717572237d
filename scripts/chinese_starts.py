"""What each half of the Chinese model's initialization gains: the table of
nbs/07_recipes/02_chinese_teacher.ipynb.

    .venv/bin/python scripts/chinese_starts.py FOLDER [NAME ...]

Trains from every initialization (or those named), 800 updates each, some five minutes on one core.
Runs are stored in FOLDER: finished ones are only printed, interrupted ones resume.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
import json
import sys

from tinybert_nb.models.heads import new_student
from tinybert_nb.models.loading import load_encoder, save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.chinese_teacher import chinese_texts, make_initial_model
from tinybert_nb.recipes.masked_lm import train_masked_lm
from tinybert_nb.training.settings import MaskedLMSettings

# name -> whether word embeddings are word2vec's, position embeddings sines; fraction of masked tokens
STARTS = {
    "random": (False, False, 0.15),
    "sines": (False, True, 0.15),
    "word2vec": (True, False, 0.15),
    "both": (True, True, 0.15),
    "both-30": (True, True, 0.3),
    "both-40": (True, True, 0.4),
}


def checkpoint(folder: Path, make: Callable[[Path], object]) -> Path:
    """The checkpoint in a folder, made if missing."""
    if not (folder / "config.json").is_file():
        make(folder)
    return folder


def save_start(whole: Path, vectors: bool, sines: bool, folder: Path) -> None:
    """Save an initialization, with random word or position embeddings where not selected."""
    model = load_encoder(whole)
    plain = new_student(model.config, seed=0, head=False).embeddings
    for table, kept in (("word_embeddings", vectors), ("position_embeddings", sines)):
        if not kept:
            setattr(model.embeddings, table, getattr(plain, table))
    save_checkpoint(folder, model, load_tokenizer(whole))


def main() -> None:
    """Train from each initialization and print the results."""
    folder, names = Path(sys.argv[1]), sys.argv[2:] or [*STARTS]
    texts = chinese_texts()
    lines = texts["train"].read_text(encoding="utf-8").splitlines()
    whole = checkpoint(folder / "start", lambda place: make_initial_model(lines, place))
    print(f"{'start':10} {'top 15':>7} {'top 1':>7} {'loss':>7}")
    for name in names:
        vectors, sines, share = STARTS[name]
        start = checkpoint(folder / f"{name}-start", partial(save_start, whole, vectors, sines))
        settings = MaskedLMSettings(steps=800, batch_size=16, length=64, learning_rate=1e-3,
                                    masked_fraction=share)
        train_masked_lm(texts["train"], str(start), folder / name, settings, texts["dev"])
        rows = map(json.loads, (folder / name / "history.jsonl").read_text().splitlines())
        best = max((row for row in rows if row["split"] == "dev"), key=lambda row: row["top_15"])
        print(f"{name:10} {best['top_15']:7.3f} {best['top_1']:7.3f} {best['masked_loss']:7.2f}")


if __name__ == "__main__":
    main()
