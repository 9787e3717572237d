"""Attention tables and disagreement: several architectures, unequal heads, pairs, windows, words."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig, AutoModel, BertConfig, BertForMaskedLM, BertModel, BertTokenizer,
    CamembertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig, PreTrainedTokenizerFast,
    RobertaConfig, XLMRobertaConfig)

from tinybert_nb.analysis.alignment import align, attention_pair, mean_alignment, read_text, trace_both
from tinybert_nb.analysis.attention_tables import (
    WAYS, add_value_norms, attention_table, join_words, merge_tables, output_matrices, table_rows,
    value_weighted_attention, with_value_norms)
from tinybert_nb.analysis.disagreement import (
    answers_of, disagreement, first_sight, paired_tables, unmapped_layers)
from tinybert_nb.analysis.similarity import compare_models
from tinybert_nb.data.batches import pad_batch
from tinybert_nb.distillation.layer_map import LayerMap, skip_map, uniform_map
from tinybert_nb.models.trace import trace_forward

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "a film that is odd charming ##ly , . and never ends 好 看 的 电 影 。".split()
NUMBERS = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
SIZES = dict(vocab_size=len(SPECIAL + WORDS), hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
             intermediate_size=32, max_position_embeddings=64, initializer_range=0.4, **NUMBERS)
OUTPUTS = {  # where each architecture keeps the output projection of its attention
    "BERT": (BertConfig(**SIZES), "encoder.layer.{}.attention.output.dense"),
    "RoBERTa": (RobertaConfig(**SIZES), "encoder.layer.{}.attention.output.dense"),
    "XLM-R": (XLMRobertaConfig(**SIZES), "encoder.layer.{}.attention.output.dense"),
    "CamemBERT": (CamembertConfig(**SIZES), "encoder.layer.{}.attention.output.dense"),
    "ELECTRA": (ElectraConfig(**SIZES, embedding_size=12), "encoder.layer.{}.attention.output.dense"),
    "DistilBERT": (DistilBertConfig(vocab_size=SIZES["vocab_size"], dim=24, n_layers=3, n_heads=4, hidden_dim=32,
                                    max_position_embeddings=64, initializer_range=0.4),
                   "transformer.layer.{}.attention.out_lin"),
    "ALBERT": (AlbertConfig(**SIZES, embedding_size=12),
               "encoder.albert_layer_groups.0.albert_layers.0.attention.dense"),
    "ModernBERT": (ModernBertConfig(**SIZES, local_attention=4, global_attn_every_n_layers=3), "layers.{}.attn.Wo"),
}
TEXT = "a charmingly odd film , and that film never ends ."


def small_model(config, **changes):
    """A random encoder; its output is the same each time."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


@pytest.fixture(scope="module")
def tokenizer():
    made = BertTokenizer(vocab={token: number for number, token in enumerate(SPECIAL + WORDS)})
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


def byte_level(*merges) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer as RoBERTa's, of single bytes and these merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate(
        ["<s>", "<pad>", "</s>", "<unk>", *letters, *("".join(pair) for pair in merges)])}
    made = Tokenizer(models.BPE(vocabulary, [*merges]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", cls_token="<s>", sep_token="</s>",
                                   pad_token="<pad>", bos_token="<s>", eos_token="</s>",
                                   model_input_names=["input_ids", "attention_mask"])


# Architectures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_output_projection_is_found_in_every_architecture(name, tokenizer):
    config, path = OUTPUTS[name]
    model = small_model(config).train()
    matrices = output_matrices(model)
    assert len(matrices) == 3 and model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    for layer, matrix in enumerate(matrices):
        assert torch.equal(matrix, model.get_submodule(path.format(layer)).weight)


@pytest.mark.parametrize("name", OUTPUTS)
def test_addends_of_value_weighted_attention_sum_to_the_attention_output(name, tokenizer):
    """What the heads add, vector by vector, is what the model's own projection returns."""
    config, path = OUTPUTS[name]
    model, outputs = small_model(config), []
    projection = model.get_submodule(path.format(1))
    hook = projection.register_forward_hook(lambda module, given, output: outputs.append(output))
    batch = dict(tokenizer(TEXT, return_tensors="pt"))
    with torch.inference_mode():
        trace = trace_forward(model, batch, values=True)
    hook.remove()
    own = outputs[1 if name == "ALBERT" else 0][0]  # ALBERT's layers share it
    own = own if projection.bias is None else own - projection.bias
    by_head = projection.weight.detach().reshape(24, 4, 6)
    vectors = torch.einsum("hks,ohs->hko", trace.values[1][0], by_head)
    addends = trace.probabilities(1)[0][..., None] * vectors[:, None]  # (heads, query, key, hidden)
    torch.testing.assert_close(addends.sum((0, 2)), own, rtol=1e-3, atol=1e-4)
    table = value_weighted_attention(with_value_norms(trace, model), 2)
    torch.testing.assert_close(table, addends.norm(dim=-1), rtol=1e-3, atol=1e-5)


def test_the_output_projection_is_found_in_bfloat16(tokenizer):
    model = small_model(OUTPUTS["BERT"][0]).bfloat16()
    assert len(output_matrices(model)) == 3
    read = add_value_norms(read_text(model, model, tokenizer, TEXT), model, model)
    assert attention_table(read.teacher, 2, "value-weighted").dtype == torch.float32


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_way_shows_every_architecture_beside_a_smaller_one(name, tokenizer):
    teacher = small_model(OUTPUTS[name][0])
    student = small_model(BertConfig(**SIZES), num_hidden_layers=2, num_attention_heads=2, hidden_size=16)
    read = add_value_norms(read_text(teacher, student, tokenizer, TEXT), teacher, student)
    for way in WAYS:
        theirs, ours = paired_tables(read, uniform_map(3, 2), 2, way, "matched")
        assert theirs.shape == ours.shape and ours.shape[-1] == len(read.tokens)
    first = first_sight(read, uniform_map(3, 2), "matched")
    assert read.words[first.word].text not in ",.[CLS][SEP]"


# Unequal heads ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unequal():
    """Teachers of four heads, students of two and of six."""
    config = BertConfig(**SIZES)
    return small_model(config), {heads: small_model(config, num_hidden_layers=2, num_attention_heads=heads)
                                 for heads in (2, 6)}


def test_nothing_is_chosen_silently_for_unequal_heads(unequal, tokenizer):
    teacher, students = unequal
    read = read_text(teacher, students[6], tokenizer, TEXT)
    for call in (disagreement, first_sight, unmapped_layers):
        with pytest.raises(ValueError, match="teacher has 4 heads and the student 6.*heads='mean'$"):
            call(read, uniform_map(3, 2))
        with pytest.raises(ValueError, match="cannot be paired one to one: choose mean"):
            call(read, uniform_map(3, 2), heads="matched")
        with pytest.raises(ValueError, match="heads is 'select': choose one of same, matched, mean"):
            call(read, uniform_map(3, 2), heads="select")
    assert [row["head"] for row in disagreement(read, uniform_map(3, 2), heads="mean")] == [None, None]


def test_matched_heads_of_a_data_set_are_those_of_its_first_batch(unequal, tokenizer):
    teacher, students = unequal
    rows = [dict(tokenizer(text), label=0, row=n) for n, text in enumerate((TEXT, "a film .", "never odd"))]
    batches = [pad_batch(rows[:1]), pad_batch(rows[1:])]
    found = mean_alignment(teacher, students[2], batches, heads="matched")
    first = align(*trace_both(teacher, students[2], batches[0]), uniform_map(3, 2), "matched")
    assert [row["teacher_head"] for row in found] == [row["teacher_head"] for row in first]
    assert len({(row["student_layer"], row["teacher_head"]) for row in found}) == 4
    study = compare_models(teacher, students[2], tokenizer, batches, heads="matched")
    assert study["heads"] == found and len(study["head_grid"]) == 2 * 2 * 3 * 4


def test_equal_heads_give_the_same_rows_with_and_without_a_choice(unequal, tokenizer):
    """A model beside a copy of itself whose heads were exchanged is found again head by head."""
    teacher, _ = unequal
    mixed, order = copy.deepcopy(teacher), [2, 0, 3, 1]
    for layer in mixed.encoder.layer:
        for part in (layer.attention.self.query, layer.attention.self.key):
            for tensor in (part.weight, part.bias):
                tensor.data = tensor.data.reshape(4, 6, -1)[order].reshape(tensor.shape)
    pair = attention_pair(teacher, mixed, tokenizer, TEXT, layer_map=uniform_map(3, 3), heads="matched")
    assert pair.teacher_heads[0] == tuple(number + 1 for number in order) and pair.heads == "matched"
    torch.testing.assert_close(pair.teacher[0], pair.student[0])
    same = disagreement(read_text(teacher, mixed, tokenizer, TEXT), uniform_map(3, 3))
    assert max(row["jensen_shannon"] for row in same) > 0.01


def test_layers_without_a_pair_stand_beside_the_nearest(unequal, tokenizer):
    teacher, students = unequal
    read = read_text(teacher, students[2], tokenizer, TEXT)
    several = LayerMap(3, 2, ((1, 1, 1.0), (1, 2, 0.5), (2, 3, 1.0)))  # layer 2 teaches, too
    assert unmapped_layers(read, several, heads="mean") == []
    rows = unmapped_layers(read, skip_map(3, 2), heads="mean")
    assert [row["teacher_layer"] for row in rows] == [1]
    assert disagreement(read, skip_map(3, 2), heads="mean")[1]["teacher_layer"] == 3  # shown, though untaught


# Pairs, windows, words --------------------------------------------------------------------------


def test_words_of_a_pair_are_apart_though_their_numbers_are_equal(tokenizer):
    model = small_model(BertConfig(**SIZES))
    read = read_text(model, model, tokenizer, "charmingly", "charmingly odd")
    assert [(word.text, word.start, word.end) for word in read.words] == [
        ("[CLS]", 0, 1), ("charmingly", 1, 3), ("[SEP]", 3, 4), ("charmingly", 4, 6), ("odd", 6, 7), ("[SEP]", 7, 8)]
    assert read.texts == ("charmingly", "charmingly odd") and read.offsets[4] == (0, 8)
    table = join_words(attention_table(read.teacher, 1), read.words)
    torch.testing.assert_close(table.sum(-1), torch.ones(4, 6))
    one = [*table_rows(merge_tables(table), [word.text for word in read.words], "teacher", 1, "probabilities")]
    assert [row["query_position"] for row in one if row["query"] == "charmingly"] == [1] * 6 + [3] * 6


def test_words_of_byte_level_tokens_are_written_without_their_space():
    tokenizer = byte_level(("Ġ", "f"), ("i", "l"))
    model = small_model(RobertaConfig(**{**SIZES, "vocab_size": len(tokenizer), "pad_token_id": 1}))
    read = read_text(model, model, tokenizer, "It's a film.", "naïve")
    assert [word.text for word in read.words] == [
        "<s>", "It", "'s", "a", "film", ".", "</s>", "</s>", "naïve", "</s>"]
    assert [read.words[number].special for number in (0, 5, 6, 7, 9)] == [True, False, True, True, True]
    assert read.words[8].end - read.words[8].start == 6  # two bytes of ï


def test_chinese_words_are_what_the_tokenizer_takes_for_words(tokenizer):
    model = small_model(BertConfig(**SIZES))
    read = read_text(model, model, tokenizer, "好看的电影。")
    assert [word.text for word in read.words if not word.special] == [*"好看的电影。"]
    first = first_sight(read_text(model, small_model(BertConfig(**SIZES), num_hidden_layers=2), tokenizer,
                                  "好看的电影。"), uniform_map(3, 2))
    assert first.query == first.word and 1 <= first.query <= 5  # a character, not the full stop
    bytes_ = byte_level()
    other = small_model(RobertaConfig(**{**SIZES, "vocab_size": len(bytes_), "pad_token_id": 1}))
    read = read_text(other, other, bytes_, "好看 的。")
    assert [(word.text, word.end - word.start) for word in read.words if not word.special] == [
        ("好看", 6), ("的", 4), ("。", 3)]  # a space belongs to the word behind it


def test_scores_outside_a_window_stay_out_of_merged_and_joined_tables(tokenizer):
    model = small_model(OUTPUTS["ModernBERT"][0])
    read = read_text(model, model, tokenizer, TEXT)
    table = attention_table(read.teacher, 2, "scores")
    outside = ~read.teacher.visible(1)[0, 0]
    assert outside.any() and table[:, outside].isnan().all() and not table[:, ~outside].isnan().any()
    assert torch.equal(merge_tables(table).isnan(), outside)
    words = join_words(table, read.words, "scores")
    piece = read.words[2]
    assert piece.text == "charmingly" and piece.end - piece.start == 2
    for number, word in enumerate(read.words):
        part = table[0, piece.start:piece.end, word.start:word.end]
        expected = part[~part.isnan()].mean()  # of nothing: nan
        torch.testing.assert_close(words[0, 2, number], expected, equal_nan=True)
    far = [*table_rows(words, [word.text for word in read.words], "teacher", 2, "scores")][len(read.words) - 1]
    assert far["value"] is None and far["key"] == "[SEP]"


def test_a_masked_lm_has_no_answer(tokenizer):
    torch.manual_seed(0)
    masked, bare = BertForMaskedLM(BertConfig(**SIZES)).eval(), BertModel(BertConfig(**SIZES)).eval()
    assert answers_of(read_text(masked, bare, tokenizer, TEXT), masked, bare) == {}
