"""How often Chinese augmented examples keep their label, by a teacher's predictions.

The figures of nbs/07_recipes/03_augmented_files.ipynb.

    .venv/bin/python scripts/chinese_variants.py FOLDER

Fine-tunes a teacher that was not pre-trained like the model of the candidates, and predicts 200
test reviews and their augmented examples, five samples of each, with three seeds. Some ten minutes
on two cores. Runs are stored in FOLDER and not repeated.
"""

from pathlib import Path
import sys

from tinybert_nb.data.examples import read_examples, write_examples
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.evaluation.submission import answer_texts
from tinybert_nb.recipes.augmented_files import augment_file
from tinybert_nb.recipes.chinese_teacher import chinese_reviews, make_initial_model
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.training.settings import AugmentationSettings, FinetuneSettings

LENGTH = 128


def fine_tuned(folder: Path, reviews: dict[str, Path]) -> Path:
    """A teacher fine-tuned on 2,000 reviews."""
    for part, count in (("train", 2000), ("dev", 200)):
        write_examples(read_examples(reviews[part])[:count], folder / f"{part}.txt")
    if not (folder / "start/config.json").is_file():
        make_initial_model((example.text_a for example in read_examples(reviews["train"])), folder / "start")
    settings = FinetuneSettings(epochs=3, max_length=LENGTH, learning_rate=3e-4)
    files = TaskFiles(folder / "train.txt", folder / "dev.txt")
    finetune(files, folder / "start", folder / "teacher", settings)
    return folder / "teacher/best"


def main() -> None:
    """Print how often the teacher predicts the label, for originals and for each seed's examples."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    reviews = chinese_reviews()
    teacher = fine_tuned(folder, reviews)
    originals = read_examples(reviews["test"])[:200]
    write_examples(originals, folder / "originals.txt")
    found, texts = {"originals": originals}, {example.text_a for example in originals}
    for seed in range(3):
        out = folder / f"variants-{seed}.txt"
        augment_file(folder / "originals.txt", out, AugmentationSettings(samples=5, seed=seed))
        found[f"seed {seed}"] = [each for each in read_examples(out) if each.text_a not in texts]
    found["all seeds"] = [each for name, some in found.items() if name != "originals" for each in some]
    print(f"{'':10} {'texts':>6} {'label kept':>11}")
    for name, some in found.items():
        predicted = answer_texts(teacher, [(example.text_a,) for example in some], LENGTH)
        kept = sum(answer == example.label for answer, example in zip(predicted, some))
        print(f"{name:10} {len(some):6} {kept / len(some):11.3f}")


if __name__ == "__main__":
    main()
