"""What a run is made from is known by content; what a command writes destroys nothing."""

import hashlib
import json
import shutil

import pytest

from tinybert_nb.cli.commands import main
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.task_data import load_task
from tinybert_nb.recipes.teacher_logits import cached_teacher_logits
from tinybert_nb.training.runs import identify_model
from tinybert_nb.training.settings import FinetuneSettings

LABELS = ["negative", "positive"]
WORDS = "a good bad Good Bad film FILM".split()
ROWS = [f"a {word} film\t{label}\n" for word, label in zip(["Good", "Bad"] * 8, LABELS[::-1] * 8)]
BRIEF = FinetuneSettings(epochs=1, max_length=16)


def write_model(folder, labels=LABELS, lower=True, words=WORDS, **config):
    """A tiny classifier; always the same weights."""
    from transformers import BertConfig, BertTokenizer

    from tinybert_nb.models.heads import new_student
    from tinybert_nb.models.loading import save_checkpoint

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    settings = BertConfig(
        vocab_size=len(pieces),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **config,
    )
    tokenizer = BertTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        do_lower_case=lower,
        model_max_length=128,
    )
    model = new_student(settings, seed=1)
    model.base_model.pooler.dense.weight.data *= 50  # so that logits differ
    model.classifier.weight.data *= 50
    save_checkpoint(folder, model, tokenizer)
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a model, task files and a text; caches lie in it as well."""
    monkeypatch.setenv("TINYBERT_NB_DATA", str(tmp_path / "cache"))
    place = tmp_path / "work"
    (place / "mine").mkdir(parents=True)
    (place / "mine/thesis.txt").write_text("three years of work")
    (place / "train.txt").write_text("".join(ROWS))
    (place / "eval.txt").write_text("".join(ROWS[:4]))
    (place / "corpus.txt").write_text("a good film\n\na bad film\n\n" * 40)
    write_model(place / "x/best")
    return place


def contents(folder) -> dict:
    """Every file with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# identity ---------------------------------------------------------------------------------------

CHANGES = {
    "activation": ({"classifier_activation": "relu"}, "configuration"),
    "label order": ({"labels": LABELS[::-1]}, "configuration"),
    "lower case": ({"lower": False}, "tokenizer"),
    "vocabulary": ({"words": WORDS[::-1]}, "tokenizer"),
}


@pytest.mark.parametrize("change, part", CHANGES.values(), ids=CHANGES)
def test_the_same_weights_made_into_another_model(work, change, part):
    model, files = work / "x/best", TaskFiles(work / "train.txt", work / "eval.txt")

    def logits():
        from tinybert_nb.models.loading import load_config
        from tinybert_nb.models.tokenizers import load_tokenizer

        task = load_task(files, load_tokenizer(model), 16, model)
        return dict(zip(load_config(model).id2label.values(), cached_teacher_logits(model, task, "eval").T))

    before, known = logits(), identify_model(model)
    finetune(files, model, work / "run", BRIEF)
    write_model(model, **change)
    now = identify_model(model)
    assert [name for name in known if known[name] != now[name]] == [part]
    after = logits()
    assert any(not before[label].equal(after[label]) for label in LABELS), "stale logits"
    with pytest.raises(ValueError, match=f"made otherwise .*model.{part}: '.*there, .* now"):
        finetune(files, model, work / "run", BRIEF)


def test_what_is_not_read_makes_no_other_model(work):
    model, files = work / "x/best", TaskFiles(work / "train.txt", work / "eval.txt")
    result = finetune(files, model, work / "run", BRIEF)
    config = json.loads((model / "config.json").read_text()) | {"transformers_version": "0"}
    (model / "config.json").write_text(json.dumps(config, indent=7))
    for name in ("README.md", "optimizer.bin", "training_args.bin"):
        (model / name).write_text("of no account")
    times = (work / "run/best/model.safetensors").stat().st_mtime_ns
    assert finetune(files, model, work / "run", BRIEF) == result
    assert (work / "run/best/model.safetensors").stat().st_mtime_ns == times


def test_a_tokenizer_that_was_missing_and_is_back(work):
    model = work / "x/best"
    whole = identify_model(model)
    kept = {path: path.read_bytes() for path in model.glob("*token*")}
    for path in kept:
        path.unlink()
    without = identify_model(model)
    for path, content in kept.items():
        path.write_bytes(content)
    assert without["tokenizer"] != whole["tokenizer"] and identify_model(model) == whole


def test_a_run_of_an_older_version_is_refused_in_a_sentence(work):
    files, record = TaskFiles(work / "train.txt", work / "eval.txt"), work / "run/settings.json"
    finetune(files, work / "x/best", work / "run", BRIEF)
    settings = json.loads(record.read_text())
    settings["made_from"]["model"] = "0" * 64  # as it was written: the hash of the weights alone
    record.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="made otherwise .model: '0000.*; model.tokenizer: nothing"):
        finetune(files, work / "x/best", work / "run", BRIEF)


def test_measured_once_for_the_same_models_files_and_length(work):
    from tinybert_nb.recipes.task_distillation import measure_once

    files, systems = TaskFiles(work / "train.txt", work / "eval.txt"), {"x": work / "x/best"}
    rows = measure_once(work / "measured", systems, files, 16, 0)
    assert measure_once(work / "measured", systems, files, 16, 0) == rows
    with pytest.raises(ValueError, match="made otherwise .max_length: 16 there, 12 now"):
        measure_once(work / "measured", systems, files, 12, 0)
    write_model(work / "x/best", classifier_activation="relu")
    with pytest.raises(ValueError, match="made otherwise .systems.x.configuration: "):
        measure_once(work / "measured", systems, files, 16, 0)


# outputs ----------------------------------------------------------------------------------------


def refusal(capsys, *words) -> str:
    """What a command said that refused."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert left.value.code in (1, 2) and "Traceback" not in said
    return said


NAMES = ["finetune", "stage-one", "stage-two", "distill", "ablate", "general", "masked-lm"]
NAMES += ["convert", "align", "compare"]


def commands(work, model, out):
    """Each command that reads a model and writes a folder."""
    task = ["--train", work / "train.txt", "--eval", work / "eval.txt"]
    text = ["--corpus", work / "corpus.txt", "--held-out", work / "corpus.txt"]
    return {
        "finetune": ["--teacher", model, *task, "--out", out],
        "stage-one": ["--teacher", model, "--student", "1l-24-32f", *task, "--out", out],
        "stage-two": ["--teacher", model, "--student", model, *task, "--out", out],
        "distill": ["--teacher", model, "--student", "1l-24-32f", *task, "--out", out],
        "ablate": ["--teacher", model, "--student", "1l-24-32f", *task, "--out", out],
        "general": ["--teacher", model, "--student", "1l-24-32f", *text, "--out", out],
        "masked-lm": ["--model", model, *text, "--out", out],
        "convert": ["--source", model, "--out", out],
        "align": ["--teacher", model, "--student", model, "--out", out],
        "compare": [model, "--eval", work / "eval.txt", "--out", out],
    }


@pytest.mark.parametrize("name", NAMES)
def test_output_and_input_lie_apart(work, capsys, name):
    before = contents(work)
    (work / "link").symlink_to(work / "x")
    for out in ("x/best", "x", "x/best/new", "link/best"):
        words = commands(work, work / "x/best", work / out)[name]
        assert "the input" in refusal(capsys, name, *words), out
    assert contents(work) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_a_file_is_named(work, capsys, name):
    before = contents(work)
    words = commands(work, work / "x/best", work / "mine/thesis.txt")[name]
    assert "thesis.txt is a file" in refusal(capsys, name, *words)
    assert contents(work) == before


FOREIGN = {"convert": "thesis.txt", "distill": "results.json", "align": "rows.json"}
FOREIGN |= {"finetune": "history.jsonl", "general": "best/mine.txt", "compare": "own-errors.md"}


@pytest.mark.parametrize("name, file", FOREIGN.items(), ids=FOREIGN)
def test_what_others_wrote_stays(work, capsys, name, file):
    (work / "mine/best").mkdir()
    (work / "mine" / file).write_text("mine")
    before = contents(work)
    words = commands(work, work / "x/best", work / "mine")[name]
    assert "not written by this version" in refusal(capsys, name, *words)
    assert contents(work) == before


def test_a_run_beside_other_files_leaves_them(work):
    (work / "mine/notes").mkdir()
    files = TaskFiles(work / "train.txt", work / "eval.txt")
    finetune(files, work / "x/best", work / "mine", BRIEF)
    (work / "mine/best/notes.txt").write_text("mine too")
    (work / "mine/state").mkdir()
    (work / "mine/state/notes.txt").write_text("and mine")
    (work / "mine/result.json").unlink()
    finetune(files, work / "x/best", work / "mine", BRIEF)
    assert (work / "mine/thesis.txt").exists() and (work / "mine/notes").exists()
    assert (work / "mine/best/notes.txt").read_text() == "mine too"
    assert [path.name for path in (work / "mine/state").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("file", ["eval.txt", "mine/thesis.txt", "x/best/config.json"])
def test_json_replaces_rows_only(work, capsys, file):
    before = contents(work)
    words = [work / "x/best", "--eval", work / "eval.txt", "--json", work / file]
    assert file in refusal(capsys, "evaluate", *words)
    assert contents(work) == before


# damaged weights --------------------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"


@pytest.mark.parametrize("name", ["finetune", "stage-two", "general", "masked-lm", "align", "compare"])
def test_a_pointer_and_a_cut_file_are_named(work, capsys, name):
    weights = work / "x/best/model.safetensors"
    whole = weights.read_bytes()
    for content, what in ((POINTER, "is a Git LFS pointer"), (whole[:-100], "cut short or damaged")):
        weights.write_bytes(content)
        words = commands(work, work / "x/best", work / "new")[name]
        said = refusal(capsys, name, *words)
        assert f"{weights} is" in said and what in said
        shutil.rmtree(work / "new", ignore_errors=True)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "vocab.txt"])
def test_other_files_may_be_pointers_too(work, capsys, file):
    (work / "x/best" / file).write_bytes(POINTER)
    words = commands(work, work / "x/best", work / "new")["finetune"]
    assert f"{file} is a Git LFS pointer" in refusal(capsys, "finetune", *words)
