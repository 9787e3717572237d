"""Teachers of every architecture: a student comes of them, or a sentence before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    BigBirdConfig,
    CamembertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    MegatronBertConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
    XLNetConfig,
)

from conftest import tinybert_nb
from tinybert_nb.analysis.alignment import read_text
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.evaluation.measurement import evaluate
from tinybert_nb.evaluation.submission import answer_texts
from tinybert_nb.models.loading import load_classifier, load_encoder
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.recipes.general_distillation import distill_general
from tinybert_nb.recipes.masked_lm import train_masked_lm
from tinybert_nb.recipes.stage_one import stage_one
from tinybert_nb.recipes.stage_two import stage_two
from tinybert_nb.recipes.task_distillation import distill
from tinybert_nb.studies.ablations import ablate
from tinybert_nb.studies.demo import run_demo
from tinybert_nb.training.optimizer import parameter_depths
from tinybert_nb.training.settings import (
    DistillSettings, FinetuneSettings, GeneralSettings, MaskedLMSettings, StageOneSettings,
    StageTwoSettings)

WORDS = "a film that is warm funny dull cold and never ends".split()
VOCABULARY = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *WORDS]
NUMBERS = {"pad_token_id": 1, "bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
SIZES = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 4,
    "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 34,
}
STUDENT = "2l-16-4h-24f"
CUT = {
    "BERT": BertConfig(**SIZES),
    "RoBERTa": RobertaConfig(**SIZES),
    "XLM-R": XLMRobertaConfig(**SIZES),
    "CamemBERT": CamembertConfig(**SIZES),
    "ELECTRA": ElectraConfig(**SIZES, embedding_size=32),
    "ELECTRA with small embeddings": ElectraConfig(**SIZES, embedding_size=12),
    "DistilBERT": DistilBertConfig(
        vocab_size=len(VOCABULARY), dim=32, n_layers=4, n_heads=4, hidden_dim=64,
        max_position_embeddings=34),
}
ATTENTION_HIDDEN = {  # their queries and keys cannot be read
    "MPNet": MPNetConfig(**SIZES),
    "BigBird": BigBirdConfig(**SIZES, attention_type="original_full"),
    "BigBird in blocks": BigBirdConfig(  # hidden states are padded to whole blocks
        **dict(SIZES, max_position_embeddings=36), block_size=4, num_random_blocks=1),
    "Megatron-BERT": MegatronBertConfig(**SIZES),
}
UNLIKE_BERT = {
    "ALBERT": AlbertConfig(**SIZES, embedding_size=12),
    "ModernBERT": ModernBertConfig(**SIZES, local_attention=8, global_attn_every_n_layers=3),
}
BOTH = {
    "DeBERTa": DebertaConfig(**SIZES),
    "DeBERTa v2": DebertaV2Config(**SIZES, relative_attention=True, position_buckets=8),
}
OTHERS = {
    "XLNet": XLNetConfig(vocab_size=len(VOCABULARY), d_model=32, n_layer=2, n_head=4, d_inner=64),
    "GPT-2": GPT2Config(vocab_size=len(VOCABULARY), n_embd=32, n_layer=2, n_head=4),
    "T5": T5Config(vocab_size=len(VOCABULARY), d_model=32, num_layers=2, num_heads=4, d_ff=64),
}


def write_rows(folder: Path) -> TaskFiles:
    """A task file and a dev file, with a few texts of many words."""
    rows = [(f"a {word} film that is {word} " + "and never ends " * (n % 3 * 9), label)
            for n in range(10) for word, label in (("warm", "good"), ("dull", "bad"))]
    for name in ("train.txt", "dev.txt"):
        (folder / name).write_text("".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return TaskFiles(folder / "train.txt", folder / "dev.txt")


def write_teacher(folder: Path, config) -> Path:
    """A checkpoint with random weights that knows the labels, and a tokenizer without a limit."""
    for name, value in NUMBERS.items():
        setattr(config, name, value)
    config.id2label, config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(VOCABULARY)})
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


def both_stages(folder: Path, config, **changes) -> torch.nn.Module:
    """The student after an update of each stage."""
    files, teacher = write_rows(folder), write_teacher(folder / "teacher", config)
    brief = {"steps": 1, "batch_size": 4}
    stage_one(files, str(teacher), STUDENT, folder / "one",
              StageOneSettings(**brief, any_teacher=True, **changes))
    stage_two(files, str(teacher), str(folder / "one/last"), folder / "two", StageTwoSettings(**brief))
    return load_classifier(folder / "two/best", ["bad", "good"])


def sizes_of(config) -> tuple:
    """Layers, hidden size, heads and width, whatever the architecture calls them."""
    width = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    return config.num_hidden_layers, config.hidden_size, config.num_attention_heads, width


@pytest.mark.parametrize("name", CUT)
@pytest.mark.filterwarnings("ignore")
def test_a_student_is_cut_from_its_teacher(tmp_path, name):
    student = both_stages(tmp_path, CUT[name])
    assert type(student.config) is type(CUT[name]) and sizes_of(student.config) == (2, 16, 4, 24)


@pytest.mark.parametrize("name", ATTENTION_HIDDEN)
@pytest.mark.filterwarnings("ignore")
def test_a_student_without_attention_losses(tmp_path, name):
    with pytest.raises(ValueError, match="attention cannot be read .*attention_weight=0"):
        both_stages(tmp_path, ATTENTION_HIDDEN[name])
    student = both_stages(tmp_path, ATTENTION_HIDDEN[name], attention_weight=0.0, max_length=35)
    assert sizes_of(student.config) == (2, 16, 4, 24)


@pytest.mark.parametrize("name", [*UNLIKE_BERT, *BOTH])
@pytest.mark.filterwarnings("ignore")
def test_a_student_that_starts_at_random(tmp_path, name):
    config = (UNLIKE_BERT | BOTH)[name]
    changes = {"attention_weight": 0.0} if name in BOTH else {}
    with pytest.raises(ValueError, match="layers of .* are not laid out as BERT's.*initialization=random"):
        both_stages(tmp_path, config, **changes)
    assert sizes_of(both_stages(tmp_path, config, initialization="random", **changes).config) == (2, 16, 4, 24)


@pytest.mark.parametrize("name", [*CUT, *ATTENTION_HIDDEN, *UNLIKE_BERT, *BOTH])
@pytest.mark.filterwarnings("ignore")
def test_frozen_layers_keep_their_weights_and_the_others_are_trained(tmp_path, name):
    config = (CUT | ATTENTION_HIDDEN | UNLIKE_BERT | BOTH)[name]
    files, folder = write_rows(tmp_path), write_teacher(tmp_path / "teacher", config)
    settings = FinetuneSettings(steps=2, batch_size=4, frozen_layers=2, layer_decay=0.5, warmup=0.0,
                                learning_rate=1e-2, max_length=32)
    if name == "ALBERT":  # its layers share their weights
        with pytest.raises(ValueError, match="no 4 layers with weights of their own"):
            finetune(files, str(folder), tmp_path / "run", settings)
        return
    finetune(files, str(folder), tmp_path / "run", settings)
    before, after = (load_classifier(each, ["bad", "good"]) for each in (folder, tmp_path / "run/last"))
    depths, moved = parameter_depths(before), {}
    for (_, old), (_, new) in zip(before.named_parameters(), after.named_parameters()):
        moved.setdefault(depths.get(old, 5), []).append(not torch.equal(old, new))
    assert {depth: any(found) for depth, found in moved.items()} == {
        0: False, 1: False, 2: False, 3: True, 4: True, 5: True}


@pytest.mark.parametrize("problem", ["UNLIKE_BERT", "ATTENTION_HIDDEN", "loss", "reference", "size"])
def test_what_cannot_be_is_said_before_the_teacher_is_trained(tmp_path, problem):
    settings, student, config = DistillSettings(), STUDENT, RobertaConfig(**SIZES)
    if problem == "UNLIKE_BERT":
        config, message = UNLIKE_BERT["ALBERT"], "initialization=random"
    elif problem == "ATTENTION_HIDDEN":
        config, message = ATTENTION_HIDDEN["MPNet"], "attention cannot be read"
    elif problem == "loss":
        settings.stage_two.prediction_loss, message = "cosine", "unknown prediction loss 'cosine'"
    elif problem == "reference":
        settings.stage_one = StageOneSettings(reference=True, attention_loss="probability_kl")
        message = "'probability_kl' has no option 'reference'"
    else:
        student, message = "2l-64-4h", "hidden size: teacher 32, student 64"
    teacher = write_teacher(tmp_path / "teacher", config)
    with pytest.raises(ValueError, match=message):
        distill(write_rows(tmp_path), str(teacher), student, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_ablations_and_demo_ask_too_before_the_teacher_is_trained(tmp_path):
    teacher, files = write_teacher(tmp_path / "teacher", UNLIKE_BERT["ALBERT"]), write_rows(tmp_path)
    with pytest.raises(ValueError, match="cannot start from this teacher's weights"):
        ablate(files, str(teacher), STUDENT, tmp_path / "run")
    with pytest.raises(ValueError, match="cannot start from this teacher's weights"):
        run_demo("tiny", tmp_path / "run", str(teacher))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:dev")
def test_the_whole_recipe_with_roberta_and_long_texts(tmp_path):
    """Texts longer than the positions are cut to what teacher and student can take, and told."""
    teacher = write_teacher(tmp_path / "teacher", RobertaConfig(**SIZES))
    brief = {"steps": 1, "batch_size": 4}
    settings = DistillSettings(
        FinetuneSettings(**brief), StageOneSettings(**brief, any_teacher=True), StageTwoSettings(**brief))
    with pytest.warns(UserWarning, match="texts are cut to 32 tokens, not 128"):
        rows = distill(write_rows(tmp_path), str(teacher), STUDENT, tmp_path / "run", settings)
    simple = ["majority", "bag of words", "frozen teacher"]
    assert [row["system"] for row in rows] == [*simple, "teacher", f"{STUDENT} baseline", f"{STUDENT} distilled"]


@pytest.mark.filterwarnings("ignore")
def test_a_student_of_fewer_positions_sets_the_limit(tmp_path):
    files = write_rows(tmp_path)
    teacher = write_teacher(tmp_path / "teacher", BertConfig(**SIZES))
    short = dict(SIZES, hidden_size=16, num_hidden_layers=2, max_position_embeddings=20)
    student = write_teacher(tmp_path / "student", BertConfig(**short))
    brief = {"steps": 1, "batch_size": 4}
    stage_one(files, str(teacher), str(student), tmp_path / "one", StageOneSettings(**brief, any_teacher=True))
    stage_two(files, str(teacher), str(tmp_path / "one/last"), tmp_path / "two", StageTwoSettings(**brief))
    saved = json.loads((tmp_path / "two/best/tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["model_max_length"] == 20
    rows = evaluate({"teacher": teacher, "student": tmp_path / "two/best"}, files.eval)
    assert len(rows) == 3


@pytest.mark.filterwarnings("ignore:[0-9]")
def test_general_distillation_and_masked_words_keep_within_the_positions(tmp_path):
    teacher = write_teacher(tmp_path / "teacher", RobertaConfig(**SIZES))
    (tmp_path / "text.txt").write_text("a film that is warm and never ends\n" * 60, encoding="utf-8")
    brief = {"steps": 1, "batch_size": 2, "length": 64, "held_out_sequences": 4}
    for train, settings, student in ((distill_general, GeneralSettings(**brief), [STUDENT]),
                                     (train_masked_lm, MaskedLMSettings(**brief), [])):
        with pytest.warns(UserWarning, match="texts are cut to 32 tokens, not 64"):
            train(tmp_path / "text.txt", str(teacher), *student, tmp_path / train.__name__, settings,
                  held_out=tmp_path / "text.txt")


@pytest.mark.filterwarnings("ignore:[0-9]")
def test_texts_to_look_at_and_to_answer_keep_within_the_positions(tmp_path):
    folder = write_teacher(tmp_path / "teacher", RobertaConfig(**SIZES))
    model, text = load_encoder(folder), "a warm film that never ends " * 10
    assert len(read_text(model, model, BertTokenizer.from_pretrained(folder), text).tokens) == 32
    with pytest.warns(UserWarning, match="texts are cut to 32 tokens, not 128"):
        assert answer_texts(folder, [(text,)])[0] in ("good", "bad")


@pytest.mark.parametrize(("name", "command"), [*zip(OTHERS, ("plan", "evaluate", "distill"))])
def test_other_architectures_are_refused_in_a_sentence(tmp_path, name, command):
    files, folder = write_rows(tmp_path), tmp_path / "teacher"
    OTHERS[name].save_pretrained(folder)
    words = {"plan": ["--teacher", folder], "evaluate": [folder, "--eval", files.eval],
             "distill": ["--train", files.train, "--eval", files.eval, "--teacher", folder]}[command]
    done = tinybert_nb(command, *words, folder=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert f"is a {OTHERS[name].model_type} model. Supported are encoders" in done.stderr
    assert not (tmp_path / "runs").exists()
