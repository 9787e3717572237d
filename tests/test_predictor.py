"""The predictor: the same answers as PyTorch gives, without PyTorch; files, pipes, streams, bad input."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext, suppress

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from transformers import BertConfig, DistilBertConfig, RobertaConfig

from conftest import (
    ROOT, command_environment, exported_model, run_command, small_tokenizer, succeeded, tinybert_nb)
from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.memory import as_source
from tinybert_nb.data.sequence_classification import Regression
from tinybert_nb.data.task_form import KINDS, DataError, TaskForm
from tinybert_nb.data.task_kinds import register_kind
from tinybert_nb.deployment.deployed_measurement import deployed_systems, measure_deployed
from tinybert_nb.deployment.predictor import Predictor, PlainTokenizer, full_parts, ready_parts
from tinybert_nb.evaluation.labelling import predict
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.loading import save_checkpoint
from tinybert_nb.training import processes as processes

SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
             max_position_embeddings=64, initializer_range=0.6)
PROBLEMS = {"single": ["bad", "good", "so-so"], "multi": ["plot", "cast", "music"],
            "regression": ["score"], "tokens": ["O", "B-PER", "I-PER"], "spans": ["start", "end"]}
HEADS = {"tokens": "BertForTokenClassification", "spans": "BertForQuestionAnswering"}
TYPES = {"single": "single_label_classification", "multi": "multi_label_classification",
         "regression": "regression"}
LONGEST = 24
HEAVY = ["torch", "transformers", "accelerate", "scipy", "sklearn", "datasets", "tqdm", "safetensors",
         "pyarrow", "filelock", "psutil", "yaml", "tyro", "charset_normalizer", "pandas", "huggingface_hub",
         "matplotlib"]
BARRED = """
import sys
class Barred:
    def find_spec(self, name, *more):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Barred())
"""  # these packages are as if not installed
WORDS = [line.rsplit("\t", 1)[0] for line in (ROOT / "data/eval.txt").read_text(encoding="utf-8").splitlines()]


def checkpoint_of(problem: str, folder, seed=0, kind=BertConfig, **more):
    """A model with random weights for a kind of task."""
    names = PROBLEMS[problem]
    settings_ = SIZES if kind is BertConfig else {}
    config = kind(**settings_ | {"vocab_size": len(small_tokenizer())} | more)
    if problem != "spans":
        config.id2label, config.label2id = dict(enumerate(names)), {name: n for n, name in enumerate(names)}
    config.problem_type = TYPES.get(problem)
    config.architectures = [HEADS[problem]] if problem in HEADS else None
    save_checkpoint(folder, new_student(config, seed), small_tokenizer())
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function that gives checkpoint and export of a kind of task."""
    place, made = tmp_path_factory.mktemp("models"), {}

    def get(problem):
        if problem not in made:
            folder = checkpoint_of(problem, place / problem)
            made[problem] = folder, exported_model(folder, place / f"{problem}-onnx", LONGEST)
        return made[problem]

    return get


def items_of(problem: str, count: int = 60) -> list:
    """Texts of all lengths, longer than the models read too, in several scripts."""
    chance = random.Random(0)

    def text():
        some = " ".join(chance.sample(WORDS, chance.choice([1, 1, 1, 2, 4])))
        return chance.choice(["", "Naïve — ", "日本 ", "[SEP] "]) + some

    if problem == "tokens":
        return [text().split()[:chance.choice([1, 3, 50])] for _ in range(count)]
    if problem == "spans":
        return [(" ".join(chance.choice(WORDS).split()[:4]), text()) for _ in range(count)]
    return [text() for _ in range(count)]


def file_of(problem: str, items: list, path):
    """The items as a file of JSON lines."""
    def row(item):
        if problem == "tokens":
            return {"tokens": item}
        return {"question": item[0], "context": item[1]} if problem == "spans" else {"text": item}
    path.write_text("".join(json.dumps(row(item)) + "\n" for item in items), encoding="utf-8")
    return path


# The same answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS)
def test_export_and_checkpoint_answer_as_predict_does(models, problem, tmp_path):
    checkpoint, exported = models(problem)
    items = items_of(problem)
    path = file_of(problem, items, tmp_path / "texts.jsonl")
    with pytest.warns(UserWarning) if problem != "spans" else nullcontext():
        expected = predict(checkpoint, path, max_length=LONGEST)
    for predictor in (Predictor(exported), Predictor(checkpoint, max_length=LONGEST)):
        with pytest.warns(UserWarning, match=f"of 60 texts have more than {LONGEST} tokens and were cut"
                          ) if problem != "spans" else nullcontext():
            rows = [*predictor.rows(path)]
        assert len(rows) == len(expected) == len(items)
        for ours, theirs, item in zip(rows, expected, items):
            same_row(problem, ours, theirs, item)
        assert [*predictor.stream(items)] == [
            {name: row[name] for name in result_names(problem)} for row in rows]


def result_names(problem):
    return {"single": ["label", "probability", "probabilities"], "multi": ["label", "probabilities"],
            "regression": ["label"], "tokens": ["tokens", "tags", "probabilities"],
            "spans": ["answer", "start", "end", "score"]}[problem]


def same_row(problem, ours, theirs, item):
    """What a predictor's row has in common with one of `predict`."""
    for name in theirs.keys() - {"logits", "label", "tags"}:
        assert ours[name] == theirs[name], name
    if "logits" in theirs:
        assert ours["logits"] == pytest.approx(theirs["logits"], abs=1e-4)
    if problem == "regression":
        assert ours["label"] == pytest.approx(theirs["label"], abs=1e-4)
    elif problem == "tokens":
        seen = [tag for tag in ours["tags"] if tag is not None]
        assert seen == [*theirs["tags"]] and ours["tokens"] == item
        assert len(ours["tags"]) == len(ours["probabilities"]) == len(item)
        assert all(0.3 < number <= 1 for number in ours["probabilities"] if number is not None)
    elif problem == "spans":
        place = slice(ours["start"], ours["end"])
        assert ours["answer"] == "" or item[1][place] == ours["answer"]
        assert (ours["answer"] == "") == (ours["start"] is None) == (ours["score"] < 0)
    else:
        assert ours["label"] == (theirs["label"] if problem == "single" else [*theirs["label"]])
        numbers = np.array([*ours["probabilities"].values()])
        logits = np.array([*theirs["logits"].values()])
        wanted = np.exp(logits) / np.exp(logits).sum() if problem == "single" else 1 / (1 + np.exp(-logits))
        assert numbers == pytest.approx(wanted, abs=1e-4)


def test_answers_repeat_and_long_contexts_are_read_in_windows(models):
    """The answer's place is that of the chosen span, not of the first such words."""
    predictor = Predictor(models("spans")[1])
    context = " ".join(["a film of rare warmth , and one of long silences ."] * 12)
    starts = set()
    for question in ("a film ?", "who ?", "what of it ?", "rare ?", "why ?", "is it ?"):
        found = predictor((question, context))
        if found["answer"]:
            assert context[found["start"]:found["end"]] == found["answer"]
            starts.add(found["start"])
    assert any(start > 100 for start in starts)


@pytest.mark.parametrize("kind, more", [
    (DistilBertConfig, dict(dim=24, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3)),
    (RobertaConfig, dict(SIZES, type_vocab_size=1, pad_token_id=0, max_position_embeddings=66))])
def test_other_encoders(kind, more, tmp_path):
    checkpoint = checkpoint_of("single", tmp_path / "model", kind=kind, **more)
    predictor = Predictor(exported_model(checkpoint, tmp_path / "onnx", LONGEST))
    texts = items_of("single", 20)
    for ours, theirs in zip(predictor(texts), Predictor(checkpoint, max_length=LONGEST)(texts), strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


@settings(max_examples=150, deadline=None)
@given(strategies.lists(strategies.tuples(strategies.text(max_size=60), strategies.text(max_size=60)),
                        min_size=1, max_size=4), strategies.integers(8, 40))
def test_tokens_are_those_of_transformers(plain, pairs, most):
    tokenizer, (first, second) = small_tokenizer(), map(list, zip(*pairs))
    for arguments in ((first,), (first, second)):
        for options in ({}, dict(truncation=True, max_length=most)):
            ours, theirs = plain(*arguments, **options), tokenizer(*arguments, verbose=False, **options)
            assert ours["input_ids"] == theirs["input_ids"]
            assert ours["token_type_ids"] == theirs["token_type_ids"]


@pytest.fixture(scope="module")
def plain(models):
    return PlainTokenizer(models("single")[1], types=True)


def test_order_and_batches_change_nothing(models):
    exported, items = models("single")[1], items_of("single", 50)
    whole = Predictor(exported)(items)
    for options in (dict(batch_size=1), dict(batch_size=7), dict(threads=1)):
        predictor = Predictor(exported, **options)
        for window in (1, 9, 1024):
            for ours, theirs in zip(predictor.stream(items, window), whole, strict=True):
                assert ours["label"] == theirs["label"]
                assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


# What may be given ------------------------------------------------------------------------------


def test_forms_of_texts(models):
    predictor = Predictor(models("single")[1])
    one = predictor("a film")
    assert predictor(["a film"]) == [one] == predictor([{"text": "a film"}]) and predictor([]) == []
    assert predictor({"sentence": " a film "}) == one
    pair = predictor(("a film", "a cast"))
    assert pair != one and predictor([["a film", "a cast"]]) == [pair]
    assert predictor({"premise": "a film", "hypothesis": "a cast"}) == pair
    results = predictor(text for text in ["a film"] * 3)
    assert iter(results) is results and [each["label"] for each in results] == [one["label"]] * 3


def test_frames_and_data_sets(models):
    from datasets import Dataset
    import pyarrow

    predictor, texts = Predictor(models("single")[1]), ["a film", "a cast"]
    expected = predictor(texts)
    assert predictor(Dataset.from_dict({"text": texts})) == expected
    assert predictor(pyarrow.table({"text": texts})) == expected


def test_words_are_a_list_or_split_at_white_space(models):
    predictor = Predictor(models("tokens")[1])
    assert predictor("EU  rejects\tit") == predictor([["EU", "rejects", "it"]])[0]
    assert predictor("a film")["tokens"] == ["a", "film"]
    long = predictor([["film"] * 40])[0]
    assert long["tags"].count(None) == 40 - (LONGEST - 2) and len(long["tags"]) == 40


def test_words_without_a_token_have_no_tag_and_move_no_other(models):
    """A word of control characters has no token: those behind it keep their own tags."""
    predictor = Predictor(models("tokens")[1])
    found = predictor([["a", "\u200b", "film"], ["a", "film"]])
    assert found[0]["tags"][1] is None
    assert [found[0]["tags"][0], found[0]["tags"][2]] == found[1]["tags"]


@pytest.mark.parametrize("problem, item, message", [
    ("single", "", "text 1: a text is empty"), ("single", " \n", "a text is empty"),
    ("single", None, "text 1: is 'None' .NoneType.; a text, a tuple of two"),
    ("single", ["a", "b", "c"], "a tuple of two"), ("single", {"x": "a", "y": "b"}, "none has a usual name of the text"),
    ("single", "a\0b", "NUL character"), ("single", "\ud800", "half a character"), ("single", ["a", 5], "string"),
    ("tokens", [], "a text is empty"), ("tokens", ["a", ""], "no list of words"),
    ("tokens", [1], "no list of words"),
    ("spans", "Who?", "is one text, and question and context are expected"),
    ("spans", ("Who? " * 30, "Nobody."), "the question .* leave room"), ("spans", ("", "Nobody."), "is empty")])
def test_bad_texts_are_named(models, problem, item, message):
    predictor = Predictor(models(problem)[1])
    with pytest.raises(DataError, match=message):
        predictor([item])
    assert predictor.model.kind.problem == problem  # and it goes on to answer
    assert len(predictor(items_of(problem, 2))) == 2


def test_texts_and_pairs_do_not_mix(models):
    with pytest.raises(DataError, match="single texts and pairs are mixed"):
        Predictor(models("single")[1])(["a film", ("a", "pair")])


def test_a_stream_is_read_a_window_at_a_time(models):
    predictor, read = Predictor(models("single")[1]), []

    def endless():
        while True:
            read.append(len(read))
            yield "a film"

    results = predictor.stream(endless(), window=16)
    for count in range(40):
        next(results)
        assert len(read) <= count + 16


def test_what_precedes_a_bad_text_is_answered(models):
    results = Predictor(models("single")[1]).stream(["a film", "a cast", "", "more"])
    assert next(results) and next(results)
    with pytest.raises(DataError, match="text 3: a text is empty"):
        next(results)


def test_parts():
    assert [*full_parts(iter(range(7)), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [*full_parts(iter(range(6)), 3)] == [[0, 1, 2], [3, 4, 5]] and [*full_parts(iter(()), 3)] == []
    assert [*ready_parts(())] == []
    assert [item for part in ready_parts(range(1000), 7) for item in part] == [*range(1000)]
    assert max(map(len, ready_parts(range(1000), 7))) <= 7


def test_a_kind_from_outside_answers_too(tmp_path, models):
    @register_kind
    class Counts(Regression):
        problem = "counts"

        def answers(self, logits, labels, names):
            return {row: round(np.exp(value)) for row, value in super().answers(logits, labels, names).items()}

    try:
        checkpoint = tmp_path / "model"
        shutil.copytree(models("regression")[0], checkpoint)
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        (checkpoint / "config.json").write_text(json.dumps(config | {"task_kind": "counts"}), encoding="utf-8")
        exported = exported_model(checkpoint, tmp_path / "onnx", LONGEST)
        results = Predictor(exported)(["a film", "a cast"])
        assert [*map(list, results)] == [["label"]] * 2 and all(isinstance(each["label"], int) for each in results)
    finally:
        del KINDS["counts"]
    with pytest.raises(ValueError, match="problem is 'counts'.* or import the module that registers it"):
        Predictor(exported)


# Folders ----------------------------------------------------------------------------------------


def test_int8_weights_are_preferred_and_precision_chooses(models, tmp_path):
    folder = shutil.copytree(models("single")[1], tmp_path / "both")
    other = exported_model(checkpoint_of("single", tmp_path / "other", seed=5), tmp_path / "other-onnx", LONGEST)
    shutil.copy(other / "onnx/model.onnx", folder / "onnx/model_quantized.onnx")
    first, second = Predictor(models("single")[1])("a film"), Predictor(other)("a film")
    assert Predictor(folder)("a film") == Predictor(folder, "int8")("a film") == second != first
    assert Predictor(folder, "float32")("a film") == first
    (folder / "onnx/model.onnx").unlink()
    assert Predictor(folder)("a film") == second
    with pytest.raises(ValueError, match="has no onnx/model.onnx: precision may be auto or int8"):
        Predictor(folder, "float32")
    with pytest.raises(ValueError, match="precision is 'fp16': choose one of auto, float32, bfloat16, int8"):
        Predictor(folder, "fp16")


def probabilities(predictor, texts) -> np.ndarray:
    """The probabilities of the classes, (texts, classes)."""
    return np.array([[*row["probabilities"].values()] for row in predictor(texts)])


def test_a_checkpoint_answers_in_bfloat16_and_an_export_refuses_it(models, monkeypatch):
    checkpoint, exported = models("single")
    texts, exact = WORDS[:20], probabilities(Predictor(exported), WORDS[:20])
    monkeypatch.setenv("TINYBERT_NB_PRECISION", "bf16")  # what auto stands for
    rounded = probabilities(Predictor(checkpoint, "bfloat16", max_length=LONGEST), texts)
    plain = probabilities(Predictor(checkpoint, "float32", max_length=LONGEST), texts)
    assert np.abs(plain - exact).max() < 1e-5 < np.abs(rounded - exact).max() < 0.1
    with pytest.raises(ValueError, match="-onnx has no bfloat16 weights, which only a checkpoint can have: "
                                         "precision may be auto or float32"):
        Predictor(exported, "bfloat16")


def test_a_checkpoint_is_measured_in_bfloat16_only_where_that_is_faster(models, monkeypatch):
    folders = dict(zip(("mine", "onnx"), models("single")))
    monkeypatch.setenv("TINYBERT_NB_PRECISION", "no")
    assert [*deployed_systems(folders)] == ["mine", "onnx, ONNX float32"]
    monkeypatch.delenv("TINYBERT_NB_PRECISION")
    for speedup, expected in ((1.4, ["mine"]), (1.6, ["mine", "mine, bfloat16"])):
        monkeypatch.setattr(processes, "bf16_speedup", lambda *_: speedup)
        assert [*deployed_systems({"mine": folders["mine"]})] == expected
    path = [{"text": text, "label": "good"} for text in WORDS[:8]]
    plain, rounded = measure_deployed({"mine": folders["mine"]}, as_source(path), threads=[1], seconds=0,
                                      starts=1, max_length=LONGEST)
    assert rounded["system"] == "mine, bfloat16" and rounded["megabytes"] == plain["megabytes"] / 2
    assert plain["agreement"] == 1 and rounded["agreement"] >= 0.5 and rounded["model_ms_batch_1_p50_threads_1"] > 0


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "onnx/model.onnx").write_bytes(b"x"), "model.onnx is damaged"),
    (lambda folder: (folder / "onnx/model.onnx").write_bytes(b""), "model.onnx is damaged"),
    (lambda folder: os.truncate(folder / "onnx/model.onnx", 20_000), "model.onnx is damaged"),
    (lambda folder: (folder / "onnx/model.onnx").write_text("version https://git-lfs.github.com/spec/v1\n"),
     "Git LFS pointer"),
    (lambda folder: (folder / "export.json").unlink(), "export.json is missing or damaged"),
    (lambda folder: (folder / "export.json").write_text("[]"), "export.json is missing or damaged"),
    (lambda folder: (folder / "export.json").write_text('{"kind": "single"}'), "export.json is missing or damaged"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "its tokenizer cannot be opened"),
    (lambda folder: (folder / "tokenizer_config.json").unlink(), "its tokenizer cannot be opened"),
    (lambda folder: shutil.rmtree(folder / "onnx") or (folder / "config.json").unlink(), "is no folder with"),
])
def test_damaged_exports_are_refused_with_a_sentence(models, tmp_path, damage, message):
    folder = shutil.copytree(models("single")[1], tmp_path / "copy")
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        Predictor(folder)
    assert str(tmp_path) in str(error.value)


def test_folders_that_hold_something_else(models, tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder with onnx/model.onnx"):
        Predictor(tmp_path / "nowhere")
    shutil.copytree(models("single")[0], tmp_path / "run/best")
    with pytest.raises(ValueError, match="it holds best, which may be meant"):
        Predictor(tmp_path / "run")
    with pytest.raises(ValueError, match="max_length is 65; this model allows 4 to 64"):
        Predictor(models("single")[1], max_length=65)
    for options, message in ((dict(threads=0), "threads is 0"), (dict(batch_size=-1), "batch_size is -1")):
        with pytest.raises(ValueError, match=message):
            Predictor(models("single")[1], **options)


# Without PyTorch --------------------------------------------------------------------------------


def test_exports_of_all_kinds_answer_without_torch_and_much_else(models):
    """Nothing but onnxruntime, tokenizers and numpy, and no more of this package than it needs."""
    folders = {problem: str(models(problem)[1]) for problem in PROBLEMS}
    program = BARRED.format(names=HEAVY) + f"""
import json
before = {{name.partition(".")[0] for name in sys.modules}}
from tinybert_nb import Predictor
found = {{}}
for problem, folder in {folders!r}.items():
    item = ("a film ?", "a film of warmth") if problem == "spans" else "a film"
    found[problem] = Predictor(folder)([item])
loaded = {{name.partition(".")[0] for name in sys.modules}} - before - {{*sys.stdlib_module_names}}
print(json.dumps([found, sorted(name for name in loaded if not name.startswith("_"))]))
"""
    result = succeeded(run_command(sys.executable, "-c", program))
    found, loaded = json.loads(result.stdout.splitlines()[-1])
    assert loaded == ["numpy", "onnxruntime", "tinybert_nb", "tokenizers"]
    for problem in PROBLEMS:
        item = ("a film ?", "a film of warmth") if problem == "spans" else "a film"
        assert found[problem] == Predictor(models(problem)[1])([item])


def test_what_is_missing_is_named(models, tmp_path):
    def said(barred, folder):
        program = BARRED.format(names=barred) + (f"from tinybert_nb import Predictor\nPredictor({str(folder)!r})")
        return run_command(sys.executable, "-c", program).stderr.splitlines()[-1]

    checkpoint, exported = models("single")
    for name in ("onnxruntime", "tokenizers"):
        assert f"ImportError: {name} is not installed: pip install 'tinybert_nb[onnx]'" in said([name], exported)
    line = said(["torch", "transformers"], checkpoint)
    assert "is a checkpoint of PyTorch, and torch is not installed" in line and "export" in line


def test_command_without_torch(models, tmp_path):
    (tmp_path / "texts.txt").write_text("a film\na cast\n", encoding="utf-8")
    barred = [name for name in HEAVY if name != "tyro"]
    program = BARRED.format(names=barred) + "from tinybert_nb.cli.commands import main; main()"
    words = [sys.executable, "-c", program, "predict", models("single")[1], "texts.txt", "--threads", "1"]
    result = succeeded(run_command(*words, folder=tmp_path))
    rows = [*map(json.loads, result.stdout.splitlines())]
    assert [row["text"] for row in rows] == ["a film", "a cast"]
    result = run_command(*words[:3], "predict", models("single")[0], "texts.txt", folder=tmp_path)
    assert result.returncode == 1 and "torch is not installed" in result.stderr


# The command ------------------------------------------------------------------------------------


def test_command_reads_files_of_several_formats_and_writes_one(models, tmp_path):
    exported, texts = models("single")[1], ["a film", "a cast", "long silences"]
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("id,review\n" + "".join(f"7,{text}\n" for text in texts), encoding="utf-8")
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    files = [tmp_path / name for name in ("a.txt", "b.csv", "c.jsonl")]
    result = succeeded(tinybert_nb("predict", exported, *files, "--out", tmp_path / "rows.jsonl"))
    assert result.stdout == ""
    rows = [*map(json.loads, (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines())]
    assert [row["text"] for row in rows] == texts * 3
    printed = succeeded(tinybert_nb("predict", exported, *files)).stdout.splitlines()
    assert [*map(json.loads, printed)] == rows
    assert [each.label for each in read_examples(tmp_path / "rows.jsonl")] == [row["label"] for row in rows]
    checkpoint = succeeded(tinybert_nb("predict", models("single")[0], files[0])).stdout.splitlines()
    assert [json.loads(line)["label"] for line in checkpoint] == [row["label"] for row in rows[:3]]


@pytest.mark.parametrize("problem", ["tokens", "spans", "multi"])
def test_rows_of_other_kinds_are_task_files(models, problem, tmp_path):
    path = file_of(problem, items_of(problem, 8) if problem != "tokens" else [["a", "film"], ["x"]], tmp_path / "a.jsonl")
    succeeded(tinybert_nb("predict", models(problem)[1], path, "--out", tmp_path / "rows.jsonl"))
    assert len(read_examples(tmp_path / "rows.jsonl", form=TaskForm(problem=problem))) == (2 if problem == "tokens" else 8)


def test_command_names_bad_lines_and_leaves_no_half_file(models, tmp_path):
    (tmp_path / "bad.txt").write_text("a film\n\na cast\n", encoding="utf-8")
    words = ["predict", models("single")[1], tmp_path / "bad.txt"]
    result = tinybert_nb(*words, "--out", tmp_path / "rows.jsonl")
    assert result.returncode == 1 and "bad.txt:2: the line is empty" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt"]
    result = succeeded(tinybert_nb(*words, "--bad-rows", "skip"))
    assert len(result.stdout.splitlines()) == 2 and "1 of 3 rows are bad and were skipped" in result.stderr
    result = tinybert_nb(*words, "--out", tmp_path / "bad.txt")
    assert result.returncode == 1 and "is the input" in result.stderr
    for words, code, said in ((["predict"], 2, "required"), (["predict", tmp_path / "no"], 1, "is no folder with"),
                              (["predict", models("single")[1], tmp_path / "no.txt"], 1, "no.txt: cannot be read")):
        result = tinybert_nb(*words)
        assert (result.returncode, said in result.stderr.lower()) == (code, True), result.stderr


def piped(exported, *options, **more):
    """The command with pipes, as in a shell."""
    program = "from tinybert_nb.cli.commands import main; main()"
    return subprocess.Popen([sys.executable, "-c", program, "predict", str(exported), *options], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_environment(),
                            cwd=ROOT, **more)


def test_a_pipe_is_answered_line_by_line(models):
    """Who writes one line has its answer before the next."""
    with piped(models("single")[1]) as process:
        for text in ("a film", "a cast", "日本"):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        said, _ = process.communicate(timeout=60)
        assert said == "" and process.returncode == 0


@pytest.mark.parametrize("problem, line, names", [
    ("single", '{"text": "a film", "id": 3}', ["text"]), ("single", "a film", ["text"]),
    ("tokens", "a film", ["tokens"]), ("tokens", '{"tokens": ["a", "film"]}', ["tokens"]),
    ("spans", "who ?\ta film", ["question", "context"]),
    ("spans", '{"question": "who ?", "context": "a film"}', ["question", "context"])])
def test_standard_input_holds_texts_or_json(models, problem, line, names):
    with piped(models(problem)[1], "-") as process:
        said, error = process.communicate(f"{line}\n{line}\n", timeout=60)
    rows = [*map(json.loads, said.splitlines())]
    assert (process.returncode, error, len(rows)) == (0, "", 2) and rows[0].keys() == rows[1].keys()
    assert {*names, *result_names(problem)} <= {*rows[0]}


def test_a_bad_line_of_a_pipe_ends_it_at_once(models):
    """An endless pipe would never come to its end."""
    with piped(models("single")[1]) as process:
        process.stdin.write("a film\n\na cast\n")
        process.stdin.flush()
        assert process.wait(60) == 1
        assert len(process.stdout.readlines()) == 1 and "-:2: the line is empty" in process.stderr.read()
    with piped(models("single")[1]) as process:
        said, error = process.communicate('{"text": "a film"}\n{"text": \n', timeout=60)
        assert (process.returncode, len(said.splitlines())) == (1, 1) and "-:2: is not JSON" in error


def test_a_closed_pipe_ends_the_command_quietly(models):
    process = piped(models("single")[1])
    process.stdin.write("a film\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.stdout.close()
    with suppress(BrokenPipeError):
        while process.poll() is None:
            process.stdin.write("a film\n")
            process.stdin.flush()
            time.sleep(0.01)
    with suppress(BrokenPipeError):
        process.stdin.close()
    assert process.wait(60) == 0 and process.stderr.read() == ""
    process.stderr.close()
