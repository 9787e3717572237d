"""Vocabulary trimming: bad input, other tokenizers and models, characters of all scripts."""

import json
import sys
import unicodedata
import warnings

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig, BertTokenizer, DistilBertConfig, DistilBertForMaskedLM, DistilBertModel,
    ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, ElectraModel, PreTrainedTokenizerFast)

from conftest import ROOT, SHORT, small_tokenizer, succeeded, tinybert_nb
from tinybert_nb.data.task_form import DataError, TaskForm
from tinybert_nb.deployment.vocabulary_trimming import (
    compare_tokenizers, count_tokens, read_texts, required_tokens, trim_table, trim_vocabulary,
    trimmed_model, trimmed_tokenizer)
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.initialization import save_random_model
from tinybert_nb.models.loading import (
    load_classifier, load_encoder, load_projections, save_checkpoint)
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.training.runs import load_trained

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
TEXTS = ["film film plot", "a film", "the plot"]
SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)


def tokenizer_of(*tokens, **options) -> BertTokenizer:
    """A tokenizer with these tokens behind special ones and letters."""
    vocabulary = dict.fromkeys([*SPECIAL, *LETTERS, *tokens])
    return BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)}, **options)


def in_memory(model):
    """The model with its weights out of the file, aligned as new ones are, so that bits compare."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@pytest.fixture
def checkpoint(tmp_path):
    """An encoder with a few words in its vocabulary, two of which the texts use."""
    tokenizer = tokenizer_of("film", "plot", "actor", "##ing")
    return save_random_model(tmp_path / "model", "2l-24-2h", tokenizer)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, message", [
    (dict(minimum=3), "minimum is 3: it may be 1 to 2"),
    (dict(minimum=0), "minimum is 0: it may be 1 to 2"),
    (dict(minimum=1, size=58), "not both"),
    (dict(size=56), "size is 56: it may be 57, the tokens that must stay, to 60"),
    (dict(size=61), "size is 61: it may be 57"),
])
def test_options_that_fit_no_vocabulary_are_refused(checkpoint, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trim_vocabulary(checkpoint, ["film film plot", "plot"], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_texts_that_say_nothing_are_refused(checkpoint, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    for texts, message in (([], "is empty"), (tmp_path / "empty.txt", "the file is empty"),
                           (["\u200b"], "hold no token"), ("no-such-file.txt", "no-such-file")):
        with pytest.raises(DataError, match=message):
            trim_vocabulary(checkpoint, texts, tmp_path / "out")


def test_an_output_that_is_an_input_or_holds_other_files_is_refused(checkpoint, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("a film\n")
    for out, message in ((checkpoint, "is the input"), (checkpoint / "in", "lies in the input"),
                         (tmp_path, "holds the input"), (tmp_path / "mine", "holds notes.txt")):
        with pytest.raises(ValueError, match=message):
            trim_vocabulary(checkpoint, TEXTS, out)
    with pytest.raises(ValueError, match="holds the input"):
        trim_vocabulary(checkpoint, tmp_path / "mine/notes.txt", tmp_path / "mine")
    assert (tmp_path / "mine/notes.txt").read_text() == "a film\n"


def test_a_tokenizer_without_wordpiece_is_refused():
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, "a", "b", "ab"])}
    bpe = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, [("a", "b")])),
                                  unk_token="[UNK]")
    for call in (required_tokens, lambda each: trimmed_tokenizer(each, [0, 1])):
        with pytest.raises(ValueError, match="has a BPE tokenizer; only WordPiece"):
            call(bpe)


# Nothing becomes unknown ------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
def test_what_any_character_becomes_in_a_word_must_stay(lower):
    """Assigned characters of Unicode, alone and inside a word, through BERT's own rules."""
    letters = [chr(code) for code in range(sys.maxunicode + 1)
               if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
               and (code < 0x3400 or code % 20 == 13)]  # Chinese and Korean: some of them
    tokens = [mark + letter for letter in letters for mark in ("", "##")]
    tokenizer = BertTokenizer(vocab={token: number for number, token in
                                     enumerate(dict.fromkeys([*SPECIAL, *tokens]))},
                              do_lower_case=lower)
    kept = {*tokenizer.convert_ids_to_tokens([*required_tokens(tokenizer)])}
    rules, vocabulary = tokenizer.backend_tokenizer, tokenizer.get_vocab()
    text = rules.normalizer.normalize_str(" ".join(f"a{letter}a {letter}" for letter in letters))
    words = {word for word, _ in rules.pre_tokenizer.pre_tokenize_str(text)}
    assert len(words) > 20_000
    for word in words:
        spelt = {word[0], *(f"##{each}" for each in word[1:])}
        assert spelt & vocabulary.keys() <= kept, word
    assert ("é" in kept) == (not lower) and "中" in kept and not {"##中", "##!"} & kept


def test_tokens_with_a_character_of_their_own_stay_with_a_note(tmp_path):
    tokenizer = tokenizer_of("film", "naïve", "##ïve", do_lower_case=False)
    with pytest.warns(UserWarning, match="2 tokens, such as 'naïve', have a character that is no"):
        required = required_tokens(tokenizer)
    assert {"naïve", "##ïve"} <= {*tokenizer.convert_ids_to_tokens([*required])}
    assert tokenizer.convert_tokens_to_ids("film") not in required
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        required_tokens(tokenizer_of("film", "naïve", "##ïve", "ï", "##ï", do_lower_case=False))


# Tokenizers and models of other kinds -----------------------------------------------------------


def test_added_tokens_stay_and_are_renumbered(tmp_path):
    tokenizer = tokenizer_of("film", "plot", "actor")
    tokenizer.add_tokens(["newword"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e>"]})
    model = new_student(BertConfig(vocab_size=len(tokenizer) + 2, **SIZES), head=False).eval()
    save_checkpoint(tmp_path / "model", model, tokenizer)  # with rows that no token uses
    record = trim_vocabulary(tmp_path / "model", ["a film newword <e>"], tmp_path / "out")
    found, smaller = load_trained(tmp_path / "out")
    assert record["vocabulary"] == [len(tokenizer), len(tokenizer) - 2]
    assert found.config.vocab_size == len(smaller) == smaller.convert_tokens_to_ids("<e>") + 1
    assert "<e>" in smaller.all_special_tokens
    text = "a newword <e> film"
    assert smaller(text).tokens() == tokenizer(text).tokens()
    with torch.inference_mode():
        states = [each(**reads(text, return_tensors="pt")).last_hidden_state
                  for each, reads in ((model, tokenizer), (in_memory(found), smaller))]
    assert torch.equal(*states)


@pytest.mark.parametrize("kind, config", [
    (ElectraModel, ElectraConfig(embedding_size=16, **SIZES)),
    (ElectraForMaskedLM, ElectraConfig(embedding_size=16, **SIZES)),
    (DistilBertModel, DistilBertConfig(dim=24, hidden_dim=32, n_layers=2, n_heads=2)),
    (DistilBertForMaskedLM, DistilBertConfig(dim=24, hidden_dim=32, n_layers=2, n_heads=2)),
])
def test_other_architectures_are_trimmed(tmp_path, kind, config):
    tokenizer = tokenizer_of("film", "plot", "actor")
    config.vocab_size = len(tokenizer)
    model = kind(config).eval()
    save_checkpoint(tmp_path / "model", model, tokenizer)
    trim_vocabulary(tmp_path / "model", TEXTS, tmp_path / "out")
    found, smaller = load_trained(tmp_path / "out")
    kept = tokenizer.convert_tokens_to_ids(smaller.convert_ids_to_tokens([*range(len(smaller))]))
    with torch.inference_mode():
        one, other = (each(**reads("a film", return_tensors="pt", return_token_type_ids=False))[0]
                      for each, reads in ((model, tokenizer), (in_memory(found), smaller)))
    assert type(found) is kind and found.config.vocab_size == len(kept) == len(tokenizer) - 1
    if kind.__name__.endswith("MaskedLM"):
        torch.testing.assert_close(other, one[..., kept])
    else:
        assert torch.equal(one, other)


def test_a_discriminator_is_trimmed_without_its_head(tmp_path):
    tokenizer = tokenizer_of("film", "plot", "actor")
    model = ElectraForPreTraining(ElectraConfig(vocab_size=len(tokenizer), **SIZES))
    save_checkpoint(tmp_path / "model", model, tokenizer)
    trim_vocabulary(tmp_path / "model", TEXTS, tmp_path / "out")
    assert load_encoder(tmp_path / "out").config.vocab_size == len(tokenizer) - 1


def test_projections_activation_and_papers_come_along(tmp_path):
    tokenizer = tokenizer_of("film", "plot", "actor")
    config = BertConfig(vocab_size=len(tokenizer), classifier_activation="relu", **SIZES)
    projections = {"hidden.weight": torch.ones(2, 3)}
    model = new_student(config).eval()
    papers = {"LICENSE": "as you like", "ORIGIN.txt": "licence: MIT\n"}
    save_checkpoint(tmp_path / "model", model, tokenizer, projections, papers)
    trim_vocabulary(tmp_path / "model", TEXTS, tmp_path / "out")
    assert load_projections(tmp_path / "out")["hidden.weight"].equal(torch.ones(2, 3))
    found = in_memory(load_classifier(tmp_path / "out", ["LABEL_0", "LABEL_1"]).eval())
    assert type(found.dropout) is torch.nn.ReLU
    smaller = load_tokenizer(tmp_path / "out")
    with torch.inference_mode():
        assert torch.equal(model(**tokenizer("a film", return_tensors="pt")).logits,
                           found(**smaller("a film", return_tensors="pt")).logits)
    assert (tmp_path / "out/LICENSE").read_text() == "as you like"
    card = (tmp_path / "out/README.md").read_text()
    assert "license: mit" in card and card.count("## Vocabulary") == 1


def test_a_trimmed_checkpoint_is_trimmed_further_and_replaced(checkpoint, tmp_path):
    first = trim_vocabulary(checkpoint, TEXTS, tmp_path / "one")
    assert first["vocabulary"] == [61, 59]
    again = trim_vocabulary(checkpoint, TEXTS, tmp_path / "one", minimum=2)
    assert again["vocabulary"] == [61, 59]
    second = trim_vocabulary(tmp_path / "one", ["the film"], tmp_path / "two")
    assert second["vocabulary"] == [59, 58]
    record = json.loads((tmp_path / "two/trimmed.json").read_text(encoding="utf-8"))
    assert record["vocabulary"] == [59, 58] and record["call"]["model"] == str(tmp_path / "one")
    assert (tmp_path / "two/README.md").read_text().count("## Vocabulary") == 2


def test_ids_of_special_tokens_follow_in_the_configuration():
    config = BertConfig(vocab_size=9, pad_token_id=3, sep_token_id=7, bos_token_id=4, **SIZES)
    found = trimmed_model(new_student(config, head=False), [0, 3, 7, 8])
    assert (found.config.pad_token_id, found.config.sep_token_id) == (1, 2)
    assert found.config.bos_token_id is None  # its token is gone
    assert found.get_input_embeddings().padding_idx == 1


# Sources ----------------------------------------------------------------------------------------


def test_texts_of_every_kind_of_file_are_read(tmp_path):
    tags = tmp_path / "tags.txt"
    tags.write_text("Ann B-PER\nsings O\n\nNo O\n")
    assert [*read_texts(tags, TaskForm(problem="tokens"))] == ["Ann sings", "No"]
    squad = {"data": [{"paragraphs": [{"context": "Ann sings.", "qas": [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    found = [*read_texts(tmp_path / "squad.json", TaskForm(problem="spans"))]
    assert found == ["Who?", "Ann sings."]
    (tmp_path / "rows.csv").write_text("review,stars\nFine.,3\n")
    assert [*read_texts(tmp_path / "rows.csv")] == ["Fine."]
    assert [*read_texts(tmp_path / "rows.csv", TaskForm(classes="a,b"))] == ["Fine."]
    assert [*read_texts(ROOT / "data/pairs_eval.txt")][:2] == (
        ROOT / "data/pairs_eval.txt").read_text(encoding="utf-8").split("\t")[:2]
    with pytest.raises(DataError, match="no column 'body'"):
        [*read_texts(tmp_path / "rows.csv", TaskForm(text="body"))]


def test_counting_many_texts_goes_through_them_once():
    tokenizer, given = small_tokenizer(), iter(["a b"] * 2500)
    counts = count_tokens(given, tokenizer)
    assert counts.sum() == 5000 and not [*given]
    found = compare_tokenizers(iter(["a b"] * 2500), tokenizer, tokenizer)
    assert (found["texts"], found["tokens"], found["changed_texts"]) == (2500, [5000, 5000], 0)
    assert "another" not in trim_table(found | {"vocabulary": [2, 1], "parameters": [2, 1],
                                                "megabytes": [2.0, 1.0]})


# The command ------------------------------------------------------------------------------------


def test_trim_prints_the_accuracy_before_and_after(teacher_run, small_data, tmp_path):
    words = ["trim", teacher_run / "best", "--texts", small_data["train"], small_data["eval"],
             "--out", tmp_path / "small", "--json", tmp_path / "rows.json"]
    result = succeeded(tinybert_nb(*words, "--eval", small_data["eval"]))
    assert "tokens in the vocabulary" in result.stdout and "majority" in result.stdout
    record, = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    before, after = record["rows"][1:]
    assert before["accuracy"] == after["accuracy"] and record["changed_texts"] == 0
    assert after["parameters"] == record["parameters"][1] < before["parameters"]


def test_a_student_is_distilled_from_a_trimmed_teacher(small_teacher, small_data, tmp_path):
    succeeded(tinybert_nb("trim", small_teacher, "--texts", small_data["train"], "--size", "300",
                          "--out", tmp_path / "teacher"))
    succeeded(tinybert_nb("distill", "--train", small_data["train"], "--eval", small_data["eval"],
                          "--teacher", tmp_path / "teacher", "--student", "2l-24-12h",
                          "--stage-one.any-teacher", "--baselines", "none", "--out", tmp_path / "run",
                          *SHORT))
    model, tokenizer = load_trained(tmp_path / "run/stage-two/best")
    assert model.config.vocab_size == len(tokenizer) == 300


def test_bad_options_end_the_command_with_a_sentence(small_teacher, small_data, tmp_path):
    words = ["trim", small_teacher, "--texts", small_data["train"], "--out", tmp_path / "out"]
    for options, code, said in ((["--minimum", "2", "--size", "300"], 1, "not both"),
                                (["--size", "9"], 1, "the tokens that must stay"),
                                (["--sise", "9"], 2, "did you mean --size")):
        result = tinybert_nb(*words, *options)
        assert (result.returncode, said in result.stderr) == (code, True), result.stderr
