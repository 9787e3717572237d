"""Augmentation as a command: formats, labels, going on after a kill, several processes, Chinese.

Run as a program, this file measures memory: `python tests/test_augmentation.py 67349 FOLDER`.
"""

from pathlib import Path
import csv
import gzip
import json
import signal
import sys
import time

import pytest

from conftest import ROOT, TEACHER, command_environment, small_tokenizer, started, succeeded, tinybert_nb, together
from forked_commands import Forked, tinybert_nb_here
from sources import settings
from test_large_data import memory


def save_masked_lm(folder: Path, tokenizer=None) -> Path:
    """A small masked-LM model with random weights: its words are nonsense, its gaps are right."""
    from transformers import BertConfig, BertForMaskedLM
    import torch

    from tinybert_nb.models.loading import save_checkpoint

    torch.manual_seed(0)
    tokenizer = tokenizer or small_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    save_checkpoint(folder, BertForMaskedLM(config), tokenizer)
    return folder


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory) -> Path:
    """Such a model, for all tests here."""
    return save_masked_lm(tmp_path_factory.mktemp("words") / "masked-lm")


@pytest.fixture(scope="module")
def options(masked_lm) -> list:
    """What every call here is told."""
    return ["--masked-lm", masked_lm, "--vectors", "none", "--samples", "3"]


def write_films(path: Path, count: int) -> Path:
    """Texts whose number, which never changes, tells their label."""
    rows = [f"a slow film with a fine cast, number {n}\t{'good' if n % 3 else 'bad'}\n" for n in range(count)]
    path.write_text("".join(rows), encoding="utf-8")
    return path


def test_labels_and_all_other_columns_stay(options, tmp_path):
    with open(tmp_path / "films.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "words", "opinion"), (1, 'He said "slow, dull film".', "bad"), (2, "Fine cast, fine plot", "good")])
    told = succeeded(tinybert_nb(
        "augment", "--data", tmp_path / "films.csv", "--out", tmp_path / "more.csv", "--text", "words", "--label", "opinion",
        "--provenance", *options))
    assert told.stdout.startswith(f"{tmp_path}/more.csv: ")
    with open(tmp_path / "more.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 4 and {(row["id"], row["opinion"]) for row in rows} == {("1", "bad"), ("2", "good")}
    assert rows[0] == {"id": "1", "words": 'He said "slow, dull film".', "opinion": "bad", "provenance": "1"}
    for row in rows[1:]:
        assert row["provenance"] == "2" or row["words"] != rows[0]["words"] and " > " in row["provenance"]
        assert row["id"] != "1" or row["words"].startswith('He said "') and row["words"].endswith('".')
    about = json.loads((tmp_path / "more.csv.about.json").read_text(encoding="utf-8"))
    assert about["made_from"]["samples"] == 3 and about["found"]["counts"]["written"] == len(rows)


def test_pairs_keep_their_partners_and_rows_their_order(options, tmp_path):
    rows = [{"question1": f"is film {n} slow", "question2": f"was train {n} late", "label": n % 2} for n in range(66)]
    with gzip.open(tmp_path / "pairs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    succeeded(tinybert_nb("augment", "--data", tmp_path / "pairs.jsonl.gz", *options))
    made = [json.loads(line) for line in (tmp_path / "aug_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    places = [int(row["question1"].split()[2]) for row in made]
    assert places == sorted(places) and {*places} == {*range(66)} and len(made) > 132
    for place, row in zip(places, made):
        assert row["label"] == place % 2 and row["question2"].split()[2] == str(place)
        own = rows[place]
        assert row["question1"] == own["question1"] or row["question2"] == own["question2"]
    assert {row["question2"] for row in made} - {row["question2"] for row in rows}  # both sides vary
    assert {row["question1"] for row in made} - {row["question1"] for row in rows}


def test_the_forks_names_and_plain_lines(masked_lm, tmp_path):
    (tmp_path / "en_data.txt").write_text("the film is slow\nwhat a fine cast\n", encoding="utf-8")
    (tmp_path / "vectors.txt").write_text("film 1 0.5\ncinema 1 0.4\nslow 0 1\n", encoding="utf-8")
    told = succeeded(tinybert_nb(
        "augment", "--data_path", tmp_path / "en_data.txt", "--pretrained_bert_model", masked_lm,
        "--glove_embs", tmp_path / "vectors.txt", "--M", "5", "--N=4", "--p", "0.9"))
    lines = (tmp_path / "aug_en_data.txt").read_text(encoding="utf-8").splitlines()
    assert f"{len(lines)} rows from 2" in told.stdout and len({*lines}) == len(lines) > 6
    assert [lines.index(line) for line in ("the film is slow", "what a fine cast")][0] == 0


def test_a_killed_run_goes_on_and_gives_the_same_lines(options, tmp_path):
    source = write_films(tmp_path / "films.txt", 900)
    succeeded(tinybert_nb("augment", "--data", source, "--out", tmp_path / "whole.txt", *options))
    words = ["augment", "--data", source, "--out", tmp_path / "again.txt", *options]
    parts, kills = tmp_path / ".again.txt.unfinished", 0
    for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        before = len(list(parts.glob("block-*.json")))
        process = started(*words)
        while process.poll() is None and len(list(parts.glob("block-*.json"))) < before + 2:
            time.sleep(0.01)
        process.send_signal(ending)
        _, said = process.communicate()
        kills += process.returncode != 0
        assert process.returncode in (-signal.SIGKILL, 143, 130, 0)
        if ending != signal.SIGKILL and process.returncode:
            assert "the same command goes on" in said and "Traceback" not in said
        assert (tmp_path / "again.txt").exists() == (process.returncode == 0)
    assert kills, "every run ended before it was stopped"
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("block-*.json")}
    assert done
    succeeded(tinybert_nb(*words))
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "whole.txt").read_bytes()
    assert not parts.exists()
    again = succeeded(tinybert_nb(*words))
    assert "finished before" in again.stderr


def test_two_processes_give_the_lines_of_one(options, tmp_path):
    source = write_films(tmp_path / "films.txt", 300)
    succeeded(tinybert_nb("augment", "--data", source, "--out", tmp_path / "one.txt", *options))
    words = ["augment", "--data", source, "--out", tmp_path / "two.txt", *options]
    together(tinybert_nb_here, [str(word) for word in words])
    assert (tmp_path / "one.txt").read_bytes() == (tmp_path / "two.txt").read_bytes()


def save_teacher(folder: Path, texts: list[str]) -> Path:
    """A classifier with random weights that gives either answer to about half of the texts."""
    from transformers import BertConfig, BertForSequenceClassification
    import torch

    from tinybert_nb.models.loading import save_checkpoint

    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, id2label={0: "negative", 1: "positive"})
    model = BertForSequenceClassification(config).eval()
    model.classifier.weight.data *= 100
    logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.detach()
    model.classifier.bias.data[1] -= (logits[:, 1] - logits[:, 0]).median()
    save_checkpoint(folder, model, tokenizer)
    return folder


def test_a_teacher_is_asked_whether_the_label_holds(options, small_data, tmp_path):
    from tinybert_nb.data.examples import read_examples
    from tinybert_nb.evaluation.submission import answer_texts

    out, originals = tmp_path / "more.txt", {example.text_a for example in read_examples(small_data["train"])}
    teacher = save_teacher(tmp_path / "teacher", [*originals])
    told = succeeded(tinybert_nb(
        "augment", "--data", small_data["train"], "--out", out, "--teacher", teacher, *options))
    counts = json.loads((tmp_path / "more.txt.about.json").read_text(encoding="utf-8"))["found"]["counts"]
    kept = counts["written"] - counts["rows"]
    assert counts["samples"] - counts.get("duplicates", 0) == kept + counts.get("contradicted", 0)
    assert counts["contradicted"] > 0 and "given another class by the teacher and dropped" in told.stdout
    variants = [example for example in read_examples(out) if example.text_a not in originals]
    said = answer_texts(teacher, [(example.text_a,) for example in variants])
    assert {*said} == {"negative", "positive"}
    assert said == [example.label for example in variants]


def test_chinese_words_are_cut_hidden_and_kept_in_number(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    from tinybert_nb.recipes.chinese_teacher import character_tokenizer, character_vocabulary
    from tinybert_nb.models.loading import save_checkpoint
    from tinybert_nb.augmentation.words import is_chinese

    texts = ["酒店房间很干净，早餐也不错。", "电脑太慢了，客服态度很差！"]
    tokenizer = character_tokenizer(character_vocabulary(texts, least=1), tmp_path / "vocabulary")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    save_checkpoint(tmp_path / "masked-lm", BertForMaskedLM(config), tokenizer)
    (tmp_path / "reviews.txt").write_text(f"{texts[0]}\t1\n{texts[1]}\t0\n", encoding="utf-8")
    succeeded(tinybert_nb(
        "augment", "--data", tmp_path / "reviews.txt", "--masked-lm", tmp_path / "masked-lm", "--vectors", "none", "--samples", "5"))
    rows = [line.split("\t") for line in (tmp_path / "aug_reviews.txt").read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 6
    for text, label in rows:
        like = texts[0] if label == "1" else texts[1]
        assert len(text) == len(like)  # a character for each
        assert [is_chinese(letter) for letter in text] == [is_chinese(letter) for letter in like]


def augment_bare(*words):
    """The command where nothing of tinybert_nb[augmentation] is installed."""
    barred = [each.split(">")[0] for each in settings()["augmentation_requirements"].split()]
    assert barred == ["gensim", "jieba"]
    return tinybert_nb("augment", *words, barred=barred)


def test_english_needs_no_extra_and_chinese_says_which(masked_lm, tmp_path):
    (tmp_path / "films.txt").write_text("An unfunny comedy, called 好\tbad\nA dazzling cast\tgood\n", encoding="utf-8")
    succeeded(augment_bare("--data", tmp_path / "films.txt", "--masked-lm", masked_lm, "--samples", "20"))
    rows = [line.split("\t") for line in (tmp_path / "aug_films.txt").read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 20
    assert {text.split()[1] for text, label in rows if label == "bad"} > {"unfunny"}  # several pieces: by the packaged vectors
    (tmp_path / "films.txt").write_text("A film called 色戒\tgood\nA slow film\tbad\n", encoding="utf-8")
    told = augment_bare("--data", tmp_path / "films.txt", "--out", tmp_path / "more.txt", "--masked-lm", masked_lm)
    assert told.returncode == 1 and "Traceback" not in told.stderr
    assert "Chinese words need jieba: pip install 'tinybert_nb[augmentation]'" in told.stderr
    assert not (tmp_path / "more.txt").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--data", "gone.txt"], "gone.txt: cannot be read"),
        (["--data", "films.txt", "--samples", "0"], "samples is 0: it must be at least 1"),
        (["--data", "films.txt", "--masked-lm", TEACHER, "--vectors", "none"], "has no masked-LM head"),
        (["--data", "films.txt", "--vectors", "films.txt", "--masked-lm", "MASKED"], "films.txt: cannot be read as word vectors"),
        (["--data", "films.txt", "--out", "films.csv"], "augmented rows are written as their source has them"),
        (["--data", "films.txt", "--stop-words", "gone.txt", "--masked-lm", "MASKED", "--vectors", "none"], "gone.txt: cannot be read as a list of words"),
        (["--data", "films.txt", "--provenance"], "the provenance goes into a column of its own"),
        (["--data", "bad.txt"], "bad.txt:2: 1 column"),
        (["--data", "films.txt", "--context", "none"], "context"),
    ],
)
def test_what_is_asked_wrongly_is_said(words, said, masked_lm, tmp_path):
    write_films(tmp_path / "films.txt", 4)
    (tmp_path / "bad.txt").write_text("fine\tgood\nnothing\n", encoding="utf-8")
    words = [str(masked_lm) if word == "MASKED" else word for word in words]
    words = [str(tmp_path / word) if word.endswith((".txt", ".csv")) else word for word in words]
    told = tinybert_nb("augment", *words)
    assert told.returncode in (1, 2) and said in told.stderr + told.stdout
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.glob("aug_*.txt"))


def measure(count: int, folder: Path, samples: int = 20) -> None:
    """Augment so many texts; prints the memory of the process at its peak, in MiB. The model has
    the packaged vocabulary: what it says of one text fills a MiB."""
    from tinybert_nb.models.tokenizers import load_tokenizer
    from tinybert_nb.recipes.augmented_files import augment_file
    from tinybert_nb.training.settings import AugmentationSettings

    folder.mkdir(parents=True, exist_ok=True)
    settings = AugmentationSettings(masked_lm=str(save_masked_lm(folder / "masked-lm", load_tokenizer(TEACHER))), vectors="none", samples=samples)
    found = augment_file(write_films(folder / f"{count}.txt", count), folder / f"{count}-more.txt", settings)
    print(json.dumps({"texts": count, "written": found["counts"]["written"], "peak_mib": round(memory("VmHWM"), 1)}))


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for count in (128, 512):
        said, faults = Forked(measure, (count, tmp_path / str(count), 2), ROOT, command_environment()).communicate()
        assert said, faults
        peaks.append(json.loads(said)["peak_mib"])
    assert peaks[1] < 1.1 * peaks[0], peaks


if __name__ == "__main__":
    measure(int(sys.argv[1]), Path(sys.argv[2]))
