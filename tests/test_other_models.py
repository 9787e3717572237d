"""Models and texts that others made: label order, tokenizer, vocabulary, aligned tokens, unknown ones."""

from pathlib import Path
import json
import shutil

import pytest
import torch

from conftest import EVAL, TRAIN, history_rows
from tinybert_nb.cli.commands import main
from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.data.task_form import TaskForm
from tinybert_nb.evaluation.measurement import evaluate
from tinybert_nb.models.loading import load_classifier, save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.recipes.task_data import load_task
from tinybert_nb.recipes.teacher_logits import ensemble_targets, cached_teacher_logits
from tinybert_nb.recipes.task_distillation import distill
from tinybert_nb.training.settings import (
    DistillSettings, FinetuneSettings, StageOneSettings, StageTwoSettings)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LABELS = ["negative", "positive"]
CHINESE = "電影很好看 好\tpositive\n太難看了 壞\tnegative\n" * 10
BRIEF = ["--epochs", "1", "--max-length", "32"]


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    """Encoded rows and cached logits of a test are its own."""
    monkeypatch.setenv("TINYBERT_NB_DATA", str(tmp_path / "data"))


def vocabulary() -> list[str]:
    """The words of the sample texts, and letters for all others."""
    words = {word for row in read_examples(TRAIN) for word in row.text_a.lower().split()}
    letters = [mark + chr(code).lower() for code in range(33, 127) for mark in ("", "##")]
    return SPECIAL + sorted({word for word in words if word.isalpha()} | {*letters})


def save_model(folder: Path, pieces: list[str], labels=LABELS, seed: int = 0) -> Path:
    """A tiny classifier with a tokenizer for these pieces."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(seed)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config = BertConfig(vocab_size=len(pieces), id2label=dict(enumerate(labels)), **sizes)
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    tokenizer.model_max_length = 128
    save_checkpoint(folder, BertForSequenceClassification(config), tokenizer)
    return folder


def save_turned(folder: Path, original: Path) -> Path:
    """The same model, the numbers of its pieces in another order."""
    pieces = vocabulary()
    order = [*range(len(SPECIAL)), *range(len(pieces) - 1, len(SPECIAL) - 1, -1)]
    save_model(folder, [pieces[number] for number in order])
    model = load_classifier(original, LABELS)
    words = model.bert.embeddings.word_embeddings.weight.data
    words.copy_(words[order].clone())
    save_checkpoint(folder, model, load_tokenizer(folder))
    return folder


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model", vocabulary())


@pytest.fixture
def turned(tmp_path, model):
    return save_turned(tmp_path / "turned", model)


def refused(capsys, *words) -> str:
    """What a command said that refused its input."""
    with pytest.raises(SystemExit) as leave:
        main([str(word) for word in words])
    assert leave.value.code == 1
    return capsys.readouterr().err


def rewrite_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Labels ------------------------------------------------------------------------------------------


def test_order_of_labels_in_the_file_does_not_matter(model):
    before = evaluate({"it": model}, EVAL)[1]["accuracy"]
    logits = cached_teacher_logits(str(model), load_task(TaskFiles(TRAIN, EVAL), load_tokenizer(model)), "eval")
    rewrite_config(model, id2label={"1": "positive", "0": "negative"})
    task = load_task(TaskFiles(TRAIN, EVAL), load_tokenizer(model), model=model)
    assert task.labels == LABELS
    assert evaluate({"it": model}, EVAL)[1]["accuracy"] == before
    assert torch.equal(cached_teacher_logits(str(model), task, "eval"), logits)


def test_twelve_classes_in_the_order_of_text(tmp_path):
    names = [f"class {number}" for number in range(12)]
    folder = save_model(tmp_path / "twelve", vocabulary(), names)
    by_text = {str(number): names[number] for number in sorted(range(12), key=str)}
    rewrite_config(folder, id2label=by_text)
    file = tmp_path / "twelve.txt"
    file.write_text("".join(f"a good film\t{name}\n" for name in names))
    assert load_task(TaskFiles(file, file), load_tokenizer(folder), model=folder).labels == names


def test_labels_that_are_numbers_in_the_configuration(tmp_path):
    folder = save_model(tmp_path / "numbers", vocabulary(), ["0", "1"])
    rewrite_config(folder, id2label={"0": 0, "1": 1})
    file = tmp_path / "numbers.txt"
    file.write_text("a good film\t1\na bad film\t0\n")
    assert load_task(TaskFiles(file, file), load_tokenizer(folder), model=folder).labels == ["0", "1"]
    assert 0 <= evaluate({"it": folder}, file)[1]["accuracy"] <= 1


# Tokenizers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "finetune", "stage-one", "general", "align"])
def test_weights_without_a_tokenizer_are_refused(tmp_path, model, command, capsys):
    for path in model.glob("tokenizer*"):
        path.unlink()
    out = tmp_path / "out"
    files = ["--train", TRAIN, "--eval", EVAL, "--teacher", model, "--out", out]
    student = ["--student", "1l-8-32f"]
    words = {
        "evaluate": [model, "--eval", EVAL],
        "stage-one": [*files, *student],
        "general": ["--teacher", model, *student, "--corpus", TRAIN, "--held-out", EVAL,
                    "--out", out],
        "align": ["--teacher", model, "--student", model, "--out", out],
    }.get(command, files)
    said = refused(capsys, command, *words)
    assert f"{model} has no tokenizer" in said and "vocab.txt, tokenizer.json" in said
    assert not out.exists()


def test_cased_vocabulary_alone_stays_cased_in_what_is_written(tmp_path, model):
    for path in model.glob("tokenizer*"):
        path.unlink()
    pieces = [piece.capitalize() if len(piece) > 3 else piece for piece in vocabulary()]
    (model / "vocab.txt").write_text("\n".join(SPECIAL + pieces[5:]), encoding="utf-8")
    tokenizer = load_tokenizer(model)
    assert tokenizer.tokenize("Film") == ["Film"]
    save_checkpoint(tmp_path / "written", load_classifier(model, LABELS), tokenizer)
    assert load_tokenizer(tmp_path / "written").tokenize("Film") == ["Film"]


# Unknown tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "finetune", "general", "align", "augment"])
def test_mostly_unknown_text_is_refused_unless_asked_for(tmp_path, model, command, capsys):
    file, plain, out = (tmp_path / name for name in ("file.txt", "plain.txt", "out.txt"))
    file.write_text(CHINESE, encoding="utf-8")
    plain.write_text(CHINESE.replace("\tpositive", "").replace("\tnegative", ""), encoding="utf-8")
    words = {
        "evaluate": [model, "--eval", file],
        "finetune": ["--train", file, "--eval", file, "--teacher", model, "--out", out, *BRIEF],
        "general": ["--corpus", plain, "--held-out", plain, "--teacher", model, "--student"]
        + ["1l-8-2h", "--epochs", "1", "--length", "8", "--out", out],
        "align": ["--teacher", model, "--student", model, "--data", file, "--out", out],
        "augment": ["--data", file, "--masked-lm", save_masked(tmp_path / "masked", model)]
        + ["--vectors", "none", "--out", out],
    }[command]
    said = refused(capsys, command, *words)
    assert "100% of the tokens are unknown to the tokenizer (in 電影很好看, 好, " in said
    assert "or set max_unknown to accept them" in said
    option = "--form.max-unknown" if command == "align" else "--max-unknown"
    main([str(word) for word in [command, *words, option, "1"]])
    said = capsys.readouterr().err
    assert "note: " in said and "100% of the tokens are unknown to the tokenizer" in said


def save_masked(folder: Path, like: Path) -> Path:
    """A masked-LM model with the same vocabulary."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig.from_pretrained(like)
    save_checkpoint(folder, BertForMaskedLM(config), load_tokenizer(like))
    return folder


def test_some_unknown_tokens_are_told_once_and_few_are_not(tmp_path, model, capsys):
    file = tmp_path / "some.txt"
    for known, told in ((9, True), (40, False)):
        file.write_text(f"{'film ' * known} 好\tpositive\n{'plot ' * known} 好\tnegative\n")
        main(["evaluate", str(model), "--eval", str(file), "--max-length", "64"])
        said = capsys.readouterr().err
        assert said.count("10% of the tokens are unknown to the tokenizer (in 好)") == told


# Vocabularies ------------------------------------------------------------------------------------


def test_each_teacher_reads_with_its_own_vocabulary(model, turned):
    tasks = [load_task(TaskFiles(TRAIN, EVAL), load_tokenizer(each), 32, each) for each in (model, turned)]
    assert tasks[0].train["input_ids"][:] != tasks[1].train["input_ids"][:]
    own = cached_teacher_logits(str(model), tasks[0], "train")
    targets = ensemble_targets([*zip(map(str, (model, turned)), tasks)], tasks[0])
    torch.testing.assert_close(targets, own)


@pytest.mark.parametrize("problem", ["tokens", "spans"])
def test_logits_of_other_tokens_are_not_averaged(tmp_path, model, problem):
    file = tmp_path / {"tokens": "words.conll", "spans": "questions.jsonl"}[problem]
    answer = {"question": "what", "context": "a good plot", "answers": {
        "text": ["good"], "answer_start": [2]}}
    file.write_text({"tokens": "a O\ngood O\nplot B-x\n", "spans": json.dumps(answer)}[problem])
    letters = save_model(tmp_path / "letters", [each for each in vocabulary() if each != "plot"])
    form, lengths = TaskForm(problem=problem), {"tokens": (32, 4), "spans": (32, 32)}[problem]
    tasks = [load_task(TaskFiles(file, file, form), load_tokenizer(folder), length)
             for folder, length in zip((model, letters), lengths)]
    with pytest.raises(ValueError, match="b and the student, or another teacher, split the texts into different tokens"):
        ensemble_targets([*zip("ab", tasks)], tasks[0])


@pytest.mark.parametrize("command", ["stage-one", "distill", "general", "align"])
def test_student_with_another_vocabulary_of_the_same_size_is_refused(
    tmp_path, model, turned, command, capsys
):
    out = tmp_path / "out"
    pair = ["--teacher", model, "--student", turned, "--out", out]
    files = ["--train", TRAIN, "--eval", EVAL]
    more = {
        "stage-one": [*files, "--any-teacher"],
        "general": ["--corpus", TRAIN, "--held-out", EVAL],
        "align": [],
    }.get(command, files)
    said = refused(capsys, command, *pair, *more)
    assert f"{model} and {turned} have different vocabularies" in said
    assert not [*out.rglob("model.safetensors")]


def test_stage_two_reads_the_texts_with_each_models_own_vocabulary(tmp_path, model, turned):
    """The two have the same weights but for the order of the embeddings, so the losses are the same."""
    settings = StageTwoSettings(epochs=2, max_length=32, history_every=1)
    losses = []
    for student in (model, turned):
        stage_two(TaskFiles(TRAIN, EVAL), model, student, tmp_path / "runs" / student.name, settings)
        losses.append([row["loss"] for row in history_rows(tmp_path / "runs" / student.name) if row["split"] == "train"])
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_plan_compares_vocabularies_and_not_their_sizes(tmp_path, model, turned, capsys):
    main(["plan", "--teacher", str(model), "--student", str(turned)])
    assert "PROBLEM: " in (said := capsys.readouterr().out) and "different vocabularies" in said
    main(["plan", "--teacher", str(model), "--student", str(model)])
    assert "PROBLEM" not in capsys.readouterr().out


def test_same_vocabulary_in_another_file_is_the_same(tmp_path, model):
    text = shutil.copytree(model, tmp_path / "text")
    for path in text.glob("tokenizer*"):
        path.unlink()
    (text / "vocab.txt").write_text("\n".join(vocabulary()), encoding="utf-8")
    rows = ["--train", TRAIN, "--eval", EVAL, "--any-teacher", *BRIEF]
    main([str(word) for word in ["stage-one", "--teacher", model, "--student", text, "--out",
                                 tmp_path / "out", *rows]])
    assert (tmp_path / "out/last/model.safetensors").exists()


# Aligned vocabularies ----------------------------------------------------------------------------

ALIGNED = dict(epochs=4, max_length=32, batch_size=16, learning_rate=3e-3, history_every=1,
               any_teacher=True, noisy_copies=0, vocabularies="aligned")


def save_byte_level(folder: Path, size: int = 400) -> Path:
    """A tiny classifier with a cased byte-level vocabulary of RoBERTa's kind, learnt from the sample texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator((row.text_a for row in read_examples(TRAIN)), trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    bpe.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=128, model_input_names=["input_ids", "attention_mask"])
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=1, id2label=dict(enumerate(LABELS)), hidden_size=16,
                        num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    save_checkpoint(folder, BertForSequenceClassification(config), tokenizer)
    return folder


def losses_of(run: Path, split: str = "train") -> list[float]:
    return [row["loss"] for row in history_rows(run) if row["split"] == split]


@pytest.mark.parametrize("trace_cache", ["no", "float32"])
def test_a_student_with_the_same_tokens_in_another_order_has_the_same_losses(tmp_path, model, trace_cache):
    """The two students have the same weights but for the order of the embeddings."""
    student = save_model(tmp_path / "student", vocabulary(), seed=1)
    changed = save_turned(tmp_path / "changed", student)
    runs = {"same": student, "aligned": changed}
    for name, each in runs.items():
        stage_one(TaskFiles(TRAIN, EVAL), model, each, tmp_path / name,
                  StageOneSettings(**ALIGNED | {"vocabularies": name, "trace_cache": trace_cache}))
    same, aligned = (losses_of(tmp_path / name) for name in runs)
    assert len(same) == 16 and same[-1] < same[0]
    assert same == pytest.approx(aligned, rel=1e-5)
    assert load_tokenizer(tmp_path / "aligned/last").get_vocab() == load_tokenizer(changed).get_vocab()


def write_aligned_task(folder: Path, problem: str) -> TaskFiles:
    """Single texts with a class or several, a pair with a number."""
    texts = [row.text_a for row in read_examples(TRAIN)][:24]
    rows = {"single": [f"{text}\t{LABELS[n % 2]}" for n, text in enumerate(texts)],
            "multi": [f"{text}\t{('sad', 'dark,sad', 'dark')[n % 3]}" for n, text in enumerate(texts)],
            "regression": [f"{text}\t{texts[n - 1]}\t{n / 7:.2f}" for n, text in enumerate(texts)]}[problem]
    for name, part in (("train.tsv", rows[:16]), ("dev.tsv", rows[16:])):
        (folder / name).write_text("\n".join(part) + "\n", encoding="utf-8")
    return TaskFiles(folder / "train.tsv", folder / "dev.tsv", TaskForm(problem=problem))


@pytest.mark.parametrize("problem", ["single", "multi", "regression"])
def test_a_student_with_other_tokens_learns_the_teachers_layers(tmp_path, problem):
    labels = {"single": LABELS, "multi": ["dark", "sad"], "regression": ["score"]}[problem]
    teacher = save_model(tmp_path / "teacher", vocabulary())
    fitting = load_classifier(teacher, labels, fresh_head=True, problem=problem)
    save_checkpoint(teacher, fitting, load_tokenizer(teacher))
    files, student = write_aligned_task(tmp_path, problem), save_byte_level(tmp_path / "student")
    found = {}
    for trace_cache in ("no", "float32"):
        run = tmp_path / trace_cache
        stage_one(files, teacher, student, run, StageOneSettings(**ALIGNED | {
            "max_length": 100, "epochs": 12, "trace_cache": trace_cache}))
        found[trace_cache] = losses_of(run)
        held_out = losses_of(run, "dev")
        assert held_out[-1] < 0.9 * held_out[0]
    assert found["no"] == pytest.approx(found["float32"], rel=1e-4)
    stage_two(files, teacher, tmp_path / "no/last", tmp_path / "two", StageTwoSettings(epochs=1, max_length=64))
    assert evaluate({"it": tmp_path / "two/best"}, files.eval, form=files.form)[1]


def test_aligned_rows_find_their_texts_among_texts_without_labels(tmp_path, model, capsys):
    pile = tmp_path / "pile.txt"
    pile.write_text("".join(f"a film about {word}\n" for word in vocabulary()[5:45]), encoding="utf-8")
    student = save_byte_level(tmp_path / "student")
    words = ["stage-one", "--train", TRAIN, "--eval", EVAL, "--unlabelled", pile, "--unlabelled-ratio", 0.5,
             "--teacher", model, "--student", student, "--vocabularies", "aligned", "--out", tmp_path / "out",
             "--any-teacher", "--steps", "4", "--max-length", "20"]
    main([str(word) for word in words])
    said = capsys.readouterr().err
    assert "of the student's" in said and "correspond to no token of the teacher" in said
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["updates"] == 4


def test_the_recipe_runs_with_aligned_vocabularies(tmp_path, model):
    student, brief = save_byte_level(tmp_path / "student"), dict(epochs=1, max_length=64)
    rows = distill(TaskFiles(TRAIN, EVAL), model, student, tmp_path / "out", DistillSettings(
        FinetuneSettings(**brief), StageOneSettings(**ALIGNED | brief), StageTwoSettings(**brief)))
    assert [row["system"] for row in rows][-2:] == ["student baseline", "student distilled"]
    assert load_tokenizer(tmp_path / "out/stage-two/best").cls_token == "<s>"


@pytest.mark.parametrize("name, value, message", [
    ("student", "1l-16-2h-32f", "a new student, 1l-16-2h-32f, has its teacher's vocabulary: leave vocabularies at same"),
    ("max_length", 8, "more than 10%: .* Choose a larger max_length"),
    ("problem", "tokens", "'tokens' encodes its texts in its own way: choose a student with the teacher's"),
])
def test_what_cannot_be_aligned_is_refused(tmp_path, model, name, value, message):
    student, settings, form = tmp_path / "student", dict(ALIGNED), TaskForm()
    given = [TaskFiles(TRAIN, EVAL, form), model, save_byte_level(student), tmp_path / "out"]
    if name == "max_length":  # the teacher splits each word into letters
        given[1:3] = save_model(tmp_path / "letters", [*SPECIAL, *[each for each in vocabulary() if len(
            each.removeprefix("##")) == 1]]), save_model(tmp_path / "words", vocabulary())
        settings["max_length"] = value
    elif name == "problem":
        given[0] = TaskFiles(TRAIN, EVAL, TaskForm(problem=value))
    else:
        given[2] = value
    with pytest.raises(ValueError, match=message):
        stage_one(*given, StageOneSettings(**settings))
    assert not [*(tmp_path / "out").rglob("model.safetensors")]
