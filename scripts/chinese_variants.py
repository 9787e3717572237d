"""How often a Chinese variant keeps its label, by a teacher's answers: the figures of nbs/06_augmentation/03_augmenter.

    .venv/bin/python scripts/chinese_variants.py FOLDER

Fine-tunes a teacher that has not read what the model of the candidates has, and asks it about 200
test reviews and their variants, five tries at each, with three seeds. Some ten minutes of two cores.
Work is kept in FOLDER: what is finished is not done again.
"""

from pathlib import Path
import sys

from tinybert_nb.data.examples import read_examples, write_examples
from tinybert_nb.evaluation.submission import answer_texts
from tinybert_nb.recipes.augmented_files import augment_file
from tinybert_nb.recipes.chinese_teacher import chinese_reviews, start_model
from tinybert_nb.recipes.task_distillation import finetune
from tinybert_nb.training.settings import AugmentationSettings, FinetuneSettings

LENGTH = 128


def fine_tuned(folder: Path, reviews: dict[str, Path]) -> Path:
    """A teacher of 2,000 reviews."""
    for part, count in (("train", 2000), ("dev", 200)):
        write_examples(read_examples(reviews[part])[:count], folder / f"{part}.txt")
    if not (folder / "start/config.json").is_file():
        start_model((example.text_a for example in read_examples(reviews["train"])), folder / "start")
    settings = FinetuneSettings(epochs=3, max_length=LENGTH, learning_rate=3e-4)
    finetune(folder / "train.txt", folder / "dev.txt", folder / "start", folder / "teacher", settings)
    return folder / "teacher/best"


def main() -> None:
    """Print the share of originals, and of each seed's variants, that the teacher gives their label."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    reviews = chinese_reviews()
    teacher = fine_tuned(folder, reviews)
    originals = read_examples(reviews["test"])[:200]
    write_examples(originals, folder / "originals.txt")
    found, texts = {"originals": originals}, {example.text_a for example in originals}
    for seed in range(3):
        out = folder / f"variants-{seed}.txt"
        augment_file(folder / "originals.txt", out, AugmentationSettings(tries=5, seed=seed))
        found[f"seed {seed}"] = [each for each in read_examples(out) if each.text_a not in texts]
    found["all seeds"] = [each for name, some in found.items() if name != "originals" for each in some]
    print(f"{'':10} {'texts':>6} {'label kept':>11}")
    for name, some in found.items():
        said = answer_texts(teacher, [(example.text_a,) for example in some], LENGTH)
        kept = sum(answer == example.label for answer, example in zip(said, some))
        print(f"{name:10} {len(some):6} {kept / len(some):11.3f}")


if __name__ == "__main__":
    main()
