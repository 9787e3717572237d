"""Export to ONNX, int8 and OpenVINO: kinds of tasks, architectures, shapes, padding, refusals, the command."""

import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import (
    AlbertConfig, BertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig,
    RobertaConfig, RobertaTokenizer)

import tinybert_nb as package
from conftest import small_tokenizer, succeeded, tinybert_nb
from tinybert_nb.data.batches import make_loader
from tinybert_nb.data.task_form import DataError, TaskForm
from tinybert_nb.deployment import onnx_export
from tinybert_nb.deployment.onnx_export import (
    OnnxModule, OpenVinoModule, check_graph, export_model, graph_inputs,
    largest_difference, random_batches, write_graph)
from tinybert_nb.deployment.predictor import Predictor
from tinybert_nb.deployment.quantisation import (
    calibration_examples, int8_instructions, quantise_lookups, quantise_onnx,
    quantise_rows, quantised_table, write_quantised)
from tinybert_nb.evaluation.labelling import predict
from tinybert_nb.evaluation.predictions import predicted_answers, logits_of_examples, predict_logits
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.loading import save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.training.runs import load_trained

SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32,
             initializer_range=0.2)
OTHER = dict(dim=24, hidden_dim=32, n_layers=2, n_heads=3, initializer_range=0.2)
NAMES = ("positive", "negative", "neutral")
KINDS = {  # kind -> what its configuration needs, outputs, a labelled file
    "single": (dict(problem_type="single_label_classification"), ["logits"],
               "text,label\nA fine film.,positive\nDull.,negative\nSo so.,neutral\n"),
    "multi": (dict(problem_type="multi_label_classification"), ["logits"],
              'text,label\nA fine film.,"positive,neutral"\nDull.,negative\n'),
    "regression": (dict(problem_type="regression"), ["logits"],
                   "text,label\nA fine film.,4.5\nDull.,1\nSo so.,3\n"),
    "tokens": (dict(architectures=["BertForTokenClassification"]), ["logits"],
               "Ann positive\nsings neutral\n\nNo negative\n"),
    "spans": (dict(architectures=["BertForQuestionAnswering"]), ["start_logits", "end_logits"],
              json.dumps({"data": [{"paragraphs": [{"context": "Ann sings.", "qas": [
                  {"id": "1", "question": "Who?", "answers": [
                      {"text": "Ann", "answer_start": 0}]}]}]}]})),
}
ENDINGS = {"tokens": "conll", "spans": "json"}


def saved(folder, config, tokenizer=None, names=NAMES, change=None):
    """A checkpoint with random weights."""
    tokenizer = tokenizer or small_tokenizer()
    config.vocab_size = len(tokenizer)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    model = new_student(config).eval()
    model.config.architectures = [type(model).__name__]
    if change:
        change(model)
    save_checkpoint(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: the checkpoint of a kind, its exported folder, and a labelled file."""
    made = {}

    def of(kind):
        if kind not in made:
            place = tmp_path_factory.mktemp(kind)
            options, _, text = KINDS[kind]
            names = {"regression": ("score",), "spans": ("start", "end")}.get(kind, NAMES)
            checkpoint = saved(place / "model", BertConfig(**SIZES, **options), names=names)
            file = place / f"rows.{ENDINGS.get(kind, 'csv')}"
            file.write_text(text)
            export_model(checkpoint, place / "onnx")
            made[kind] = checkpoint, place / "onnx", file
        return made[kind]

    return of


# Kinds of tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_is_exported(exported, kind):
    checkpoint, folder, _ = exported(kind)
    record = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    graph = OnnxModule(folder / "onnx/model.onnx")
    assert (record["kind"], record["outputs"]) == (kind, KINDS[kind][1])
    assert graph.outputs == record["outputs"] and graph.inputs == record["inputs"]
    assert record["opset"] == 23 and record["difference"] < 1e-5
    assert (record["max_length"], record["longest_answer"]) == (128, 30)
    assert record["pad_token_id"] == 0 and "onnxruntime" in record["versions"]
    model, tokenizer = load_trained(checkpoint)
    batch = tokenizer(["A fine film.", "Dull, and long."], padding=True, return_tensors="pt")
    shape = batch["input_ids"].shape
    wanted = {"tokens": (*shape, 3), "spans": shape, "regression": (2, 1)}.get(kind, (2, 3))
    assert all(values.shape == wanted for values in graph(**batch).values())
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md"):
        assert (folder / name).is_file()
    assert "## ONNX" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_gives_the_answers_of_its_checkpoint(exported, kind):
    checkpoint, folder, file = exported(kind)
    form = TaskForm(problem=kind)
    examples = package.read_examples(file, form=form)
    model, tokenizer = load_trained(checkpoint)
    logits, rows = logits_of_examples(model, tokenizer, examples, form)
    found = predict_logits(OnnxModule(folder / "onnx/model.onnx"), make_loader(rows, tokenizer))
    torch.testing.assert_close(found, logits, atol=1e-5, rtol=0)
    both = [predicted_answers(model, each, rows, form) for each in (found, logits)]
    assert both[0] == (pytest.approx(both[1]) if kind == "regression" else both[1])


# Architectures ----------------------------------------------------------------------------------


def roberta_tokenizer() -> RobertaTokenizer:
    """A byte-level tokenizer without merges; its padding token is 1."""
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyzADNS.,"]
    return RobertaTokenizer(vocab={each: number for number, each in enumerate(letters)}, merges=[])


ARCHITECTURES = {
    "bert": (BertConfig(**SIZES), None, 3),
    "distilbert": (DistilBertConfig(**OTHER), None, 2),
    "roberta": (RobertaConfig(**SIZES, max_position_embeddings=60, type_vocab_size=1),
                roberta_tokenizer, 2),
    "electra": (ElectraConfig(embedding_size=16, **SIZES), None, 3),
    "albert": (AlbertConfig(embedding_size=16, **SIZES), None, 3),
    "modernbert": (ModernBertConfig(**SIZES, pad_token_id=0, bos_token_id=2, cls_token_id=2,
                                    eos_token_id=3, sep_token_id=3, local_attention=8), None, 2),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_and_all_shapes(tmp_path, name):
    """One row and 33, one token and as many as the model takes, whatever the padding."""
    config, tokenizer, inputs = ARCHITECTURES[name]
    checkpoint = saved(tmp_path / "model", config, tokenizer and tokenizer())
    record = export_model(checkpoint, tmp_path / "onnx")
    assert len(record["inputs"]) == inputs and record["difference"] < 1e-5
    assert record["max_length"] == (58 if name == "roberta" else 128)
    model, tokenizer = load_trained(checkpoint)
    graph = OnnxModule(tmp_path / "onnx/onnx/model.onnx")
    longest = min(tokenizer.model_max_length, 200)
    assert graph.session.inputs["input_ids"] == ["batch", "length"]
    shapes = [(1, 1), (33, 1), (1, longest), (33, 20)]
    for seed, (rows, length) in enumerate(shapes):
        drawn = random_batches(model, graph.inputs, length, seed)
        batch = next(each for each in drawn if each["input_ids"].shape[1] == length)
        batch = {key: each.repeat(rows, 1)[:rows] for key, each in batch.items()}
        assert largest_difference(model, graph, [batch]) < 1e-5, (rows, length)
    texts = ["A fine film.", "Dull, and so long that all sleep."]
    together = graph(**tokenizer(texts, padding=True, return_tensors="pt"))["logits"]
    for number, text in enumerate(texts):
        alone = graph(**tokenizer(text, return_tensors="pt"))["logits"][0]
        torch.testing.assert_close(alone, together[number], atol=1e-5, rtol=0)


def test_the_activation_before_the_classifier_is_exported(tmp_path):
    checkpoint = saved(tmp_path / "model", BertConfig(classifier_activation="relu", **SIZES))
    export_model(checkpoint, tmp_path / "onnx")
    graph = OnnxModule(tmp_path / "onnx/onnx/model.onnx")
    tokenizer = load_tokenizer(checkpoint)
    row, = predict(checkpoint, [{"text": "A fine film."}])
    logits = graph(**tokenizer("A fine film.", return_tensors="pt"))["logits"][0]
    assert logits.tolist() == pytest.approx([*row["logits"].values()], abs=1e-5)
    operations = [node.op_type for node in onnx.load(tmp_path / "onnx/onnx/model.onnx").graph.node]
    assert "Relu" in operations


def test_attention_is_that_of_the_model(tmp_path):
    checkpoint = saved(tmp_path / "model", BertConfig(**SIZES))
    record = export_model(checkpoint, tmp_path / "onnx", attention=True)
    assert record["outputs"] == ["logits", "attentions.0", "attentions.1"] and record["attention"]
    model, tokenizer = load_trained(checkpoint)
    before = model.config._attn_implementation
    graph = OnnxModule(tmp_path / "onnx/onnx/model.onnx")
    assert largest_difference(model, graph, random_batches(model, graph.inputs, 30, 5)) < 1e-5
    assert model.config._attn_implementation == before
    batch = tokenizer("A fine film.", return_tensors="pt")
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        wanted = model(**batch, output_attentions=True).attentions[1]
    torch.testing.assert_close(graph(**batch)["attentions.1"], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("heads", [1, 3, 6])
def test_attention_is_one_operation_for_any_number_of_heads(tmp_path, heads):
    config = BertConfig(**SIZES | dict(num_attention_heads=heads))
    checkpoint = saved(tmp_path / "model", config)
    export_model(checkpoint, tmp_path / "onnx")
    path = tmp_path / "onnx/onnx/model.onnx"
    operations = [node.op_type for node in onnx.load(path).graph.node]
    assert operations.count("Attention") == 2
    assert not {"Transpose", "Softmax"} & {*operations}
    model, _ = load_trained(checkpoint)
    graph = OnnxModule(path)
    batch = random_batches(model, graph.inputs, 20)[3]
    batch["attention_mask"][0] = 0  # a row of padding only, as PyTorch's fused attention has it
    with torch.inference_mode():
        torch.testing.assert_close(graph(**batch)["logits"], model(**batch).logits, atol=1e-5, rtol=0)


def test_a_file_is_little_larger_than_its_weights(exported):
    _, folder, file = exported("single")
    quantise_onnx(folder, eval=file)
    for name, most in (("model", 20_000), ("model_quantized", 60_000)):
        proto = onnx.load(folder / f"onnx/{name}.onnx")
        parts = proto.graph
        weights = sum(numpy_helper.to_array(each).nbytes for each in parts.initializer)
        assert proto.ByteSize() - weights < most
        for each in (parts, *parts.node, *parts.value_info, *parts.input, *parts.output):
            assert not each.metadata_props, each
        assert [each.name for each in parts.input] == OnnxModule(folder / f"onnx/{name}.onnx").inputs
    names = {each.name for each in onnx.load(folder / "onnx/model.onnx").graph.initializer}
    assert "model.bert.embeddings.word_embeddings.weight" in names


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_has_what_transformers_js_reads(exported, kind):
    """Names of files, the fields of the configuration, a tokenizer in one file."""
    _, folder, file = exported(kind)
    quantise_onnx(folder, eval=file)
    assert {"model.onnx", "model_quantized.onnx"} <= {each.name for each in (folder / "onnx").iterdir()}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "export.json").read_text(encoding="utf-8"))["labels"]
    assert config["model_type"] == "bert" and len(config["architectures"]) == 1
    if kind not in ("spans", "regression"):
        assert config["id2label"] == {str(number): name for number, name in enumerate(labels)}
    if kind in ("single", "multi", "regression"):
        assert config["problem_type"] == KINDS[kind][0]["problem_type"]
    for name, field in (("tokenizer.json", "model"), ("tokenizer_config.json", "tokenizer_class")):
        assert field in json.loads((folder / name).read_text(encoding="utf-8"))
    domains = onnx.load(folder / "onnx/model.onnx").opset_import
    assert [(each.domain, each.version) for each in domains] == [("", 23)]


# OpenVINO ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_exported_for_openvino(exported, tmp_path, kind):
    checkpoint, _, _ = exported(kind)
    record = export_model(checkpoint, tmp_path / "made", to="openvino", attention=kind == "single")
    assert record["format"] == "openvino" and record["difference"] < 1e-5
    names = {each.name for each in (tmp_path / "made").iterdir()}
    assert {"openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json"} <= names
    assert "onnx" not in names and "openvino" in record["versions"]
    assert "## OpenVINO" in (tmp_path / "made/README.md").read_text(encoding="utf-8")
    model, _ = load_trained(checkpoint)
    module = OpenVinoModule(tmp_path / "made/openvino_model.xml")
    assert module.outputs[:len(KINDS[kind][1])] == KINDS[kind][1]
    assert check_graph(model, module, random_batches(model, module.inputs, 60, 3)) < 1e-5


@pytest.mark.parametrize("name", ["distilbert", "roberta", "modernbert"])
def test_other_architectures_are_exported_for_openvino(tmp_path, name):
    config, tokenizer, _ = ARCHITECTURES[name]
    checkpoint = saved(tmp_path / "model", config, tokenizer and tokenizer())
    assert export_model(checkpoint, tmp_path / "made", to="openvino")["difference"] < 1e-5


def test_what_openvino_changes_is_refused(tmp_path, monkeypatch):
    checkpoint = saved(tmp_path / "model", BertConfig(**SIZES))
    monkeypatch.setattr(OpenVinoModule, "run", lambda self, feed: [
        values + 0.01 for values in self.session(feed).values()])
    with pytest.raises(ValueError, match="differ from PyTorch's by up to 0.01"):
        export_model(checkpoint, tmp_path / "made", to="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'tinybert_nb\[openvino\]'"):
        export_model(checkpoint, tmp_path / "made", to="openvino")
    assert left_over(tmp_path) == []


def test_openvino_is_imported_without_its_telemetry(tmp_path):
    """It would write an identity of this machine below the home folder, and send an event."""
    code = ("from tinybert_nb.deployment.onnx_export import import_openvino; import_openvino(); "
            "import sys; print(sys.modules['openvino_telemetry'])")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert found.stdout.strip() == "None" and not (tmp_path / "intel").exists()


def test_the_predictor_and_quantisation_say_what_to_choose_instead(exported, tmp_path):
    checkpoint, _, _ = exported("single")
    export_model(checkpoint, tmp_path / "made", to="openvino")
    with pytest.raises(ValueError, match="an export for OpenVINO.* --to onnx"):
        package.Predictor(tmp_path / "made")
    with pytest.raises(ValueError, match="holds no exported model"):
        quantise_onnx(tmp_path / "made")


def test_the_command_exports_for_openvino(exported, tmp_path):
    checkpoint, _, _ = exported("single")
    result = succeeded(tinybert_nb("export", checkpoint, "--out", tmp_path / "made", "--to", "openvino"))
    assert "openvino_model.xml: " in result.stdout
    result = tinybert_nb("export", checkpoint, "--out", tmp_path / "other", "--to", "openvino",
                         "--quantise", "dynamic")
    assert result.returncode == 2 and "leave out --to openvino" in result.stderr


# Refusals ---------------------------------------------------------------------------------------


def left_over(folder) -> list[str]:
    """Files and folders below a folder that an export has left."""
    return [path.name for path in folder.iterdir() if path.name != "model"]


@pytest.mark.parametrize("factor, said", [(1e5, "differ from PyTorch's by up to"),
                                          (float("nan"), "differ from PyTorch's by up to nan")])
def test_a_graph_that_differs_is_refused_and_leaves_nothing(tmp_path, factor, said):
    def change(model):
        model.classifier.weight.data *= factor

    checkpoint = saved(tmp_path / "model", BertConfig(**SIZES), change=change)
    with pytest.raises(ValueError, match=said):
        export_model(checkpoint, tmp_path / "onnx")
    assert left_over(tmp_path) == []


def test_a_graph_with_a_fixed_size_is_refused(tmp_path):
    checkpoint = saved(tmp_path / "model", BertConfig(**SIZES))
    model, tokenizer = load_trained(checkpoint)
    inputs = graph_inputs(model, tokenizer)
    write_graph(model, inputs, tmp_path / "model.onnx")
    changed = onnx.load(tmp_path / "model.onnx")
    for each in changed.graph.input:
        each.type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save(changed, tmp_path / "fixed.onnx")
    with pytest.raises(ValueError, match=r"inputs of fixed size: input_ids \['batch', 7\]"):
        check_graph(model, OnnxModule(tmp_path / "fixed.onnx"), random_batches(model, inputs, 9))


def test_what_cannot_be_exported_is_refused(tmp_path, small_teacher, monkeypatch):
    with pytest.raises(ValueError, match="BertModel, which has no head for a task"):
        export_model(small_teacher, tmp_path / "onnx")
    checkpoint = saved(tmp_path / "model", BertConfig(**SIZES))
    monkeypatch.setattr(onnx_export, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="GB of weights; one ONNX file holds 2 GB"):
        export_model(checkpoint, tmp_path / "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'tinybert_nb\[onnx\]'"):
        export_model(checkpoint, tmp_path / "onnx")
    assert left_over(tmp_path) == []


def test_an_output_that_holds_other_files_is_refused_and_an_own_one_replaced(exported, tmp_path):
    checkpoint, _, _ = exported("single")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("a film\n")
    for out, message in ((checkpoint, "is the input"), (checkpoint / "in", "lies in the input"),
                         (tmp_path / "mine", "holds notes.txt")):
        with pytest.raises(ValueError, match=message):
            export_model(checkpoint, out)
    export_model(checkpoint, tmp_path / "onnx")
    quantise_onnx(tmp_path / "onnx", calibration=["A fine film.", "Dull."])
    export_model(checkpoint, tmp_path / "onnx")
    assert [path.name for path in (tmp_path / "onnx/onnx").iterdir()] == ["model.onnx"]
    assert "quantisation" not in json.loads((tmp_path / "onnx/export.json").read_text())


def test_export_says_nothing_of_its_own_working(exported, tmp_path, capfd):
    checkpoint, _, _ = exported("single")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", category=DeprecationWarning)
        export_model(checkpoint, tmp_path / "onnx")
    assert capfd.readouterr() == ("", "")


# int8 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("described, found", [
    ("flags\t\t: fpu avx2 avx512f avx512_vnni", "avx512_vnni"), ("flags : avx2 avx_vnni", "avx_vnni"),
    ("flags : fpu avx2", "none"), ("Features\t: fp asimd asimddp", "asimddp"),
    ("processor : 0", "unknown"), ("", "unknown")])
def test_int8_instructions_are_read_from_the_processors_flags(described, found):
    assert int8_instructions(described) == found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_quantised_and_measured(exported, kind, recwarn):
    _, folder, file = exported(kind)
    record = quantise_onnx(folder, eval=file)
    assert record["method"] == "dynamic" and record["texts"] >= 1 and record["tables"] == 3
    assert record["megabytes"][1] < 0.75 * record["megabytes"][0]  # tiny: half of it is the graph
    assert -1 <= record["agreement"] <= 1 and len(record[record["metric"]]) == 2
    kept = json.loads((folder / "export.json").read_text(encoding="utf-8"))["quantisation"]
    assert kept["agreement"] == record["agreement"] and kept["measured_on"] == file.name
    assert f"| {record['metric']} |" in quantised_table(record)
    graphs = [OnnxModule(folder / f"onnx/{name}.onnx") for name in ("model", "model_quantized")]
    assert graphs[0].outputs == graphs[1].outputs and graphs[0].inputs == graphs[1].inputs


def test_static_logits_depend_on_no_other_text(exported):
    _, folder, _ = exported("single")
    record = quantise_onnx(folder, "static", calibration=["A fine film.", "Dull.", "So so."] * 9)
    assert record["texts"] == 27 and "metric" not in record
    graph, tokenizer = OnnxModule(folder / "onnx/model_quantized.onnx"), load_tokenizer(folder)
    batch = tokenizer(["A fine film.", "Dull."], padding=True, return_tensors="pt")
    alone = graph(**tokenizer("Dull.", return_tensors="pt"))["logits"][0]
    torch.testing.assert_close(graph(**batch)["logits"][1], alone, atol=1e-4, rtol=0)


def test_rows_have_their_own_scale():
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    table *= np.logspace(-3, 3, 50, dtype=np.float32)[:, None]
    table[7] = 0
    rows, scales = quantise_rows(table)
    assert rows.dtype == np.int8 and scales.shape == (50, 1) and (rows[7] == 0).all()
    assert (np.abs(rows[np.arange(50) != 7]).max(1) == 127).all()
    assert (np.abs(table - scales * rows) <= scales * 0.5001).all()


def test_a_table_that_a_matrix_product_reads_too_stays(tmp_path):
    table = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["a"]),
         helper.make_node("Gather", ["table", "ids"], ["b"]),
         helper.make_node("Gather", ["table", "one"], ["c"], axis=1),
         helper.make_node("Add", ["a", "b"], ["sum"]),
         helper.make_node("MatMul", ["table", "column"], ["product"])], "g",
        [helper.make_tensor_value_info("ids", kinds.INT64, [2])],
        [helper.make_tensor_value_info(name, kinds.FLOAT, [None, None]) for name in ("sum", "c", "product")],
        [numpy_helper.from_array(table, "table"),
         numpy_helper.from_array(np.array([1]), "one"),
         numpy_helper.from_array(np.ones((4, 1), np.float32), "column")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert quantise_lookups(model) == 1
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "m.onnx")
    found = OnnxModule(tmp_path / "m.onnx")(ids=torch.tensor([0, 5]))
    np.testing.assert_allclose(found["sum"], 2 * table[[0, 5]], atol=np.abs(table).max() / 100)
    np.testing.assert_allclose(found["product"], table.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(found["c"], table[:, 1:2])


def test_a_loss_is_a_warning_or_an_error(exported, tmp_path, monkeypatch):
    _, folder, file = exported("single")
    (folder / "onnx/model_quantized.onnx").unlink(missing_ok=True)
    monkeypatch.setattr("tinybert_nb.deployment.quantisation.LEAST_AGREEMENT", 1.01)
    with pytest.raises(ValueError, match="agree .* is not written"):
        quantise_onnx(folder, eval=file, refuse=True)
    assert not (folder / "onnx/model_quantized.onnx").exists()
    with pytest.warns(UserWarning, match="less than 101%"):
        quantise_onnx(folder, eval=file)
    with pytest.warns(UserWarning, match="no text was named"):
        record = quantise_onnx(folder)
    assert "agreement" not in record and "agreement" not in quantised_table(record)


def test_bad_texts_and_methods_are_refused(exported, tmp_path):
    _, folder, file = exported("single")
    (tmp_path / "bad.csv").write_text("text,label\nA film.,positive\nB.,unheard-of\n")
    (tmp_path / "empty.txt").write_text("")
    for options, message in ((dict(eval=tmp_path / "bad.csv"), "bad.csv:3.*unheard-of"),
                             (dict(calibration=tmp_path / "empty.txt"), "empty"),
                             (dict(method="int4"), "choose one of dynamic, static"),
                             (dict(method="static", eval=file), "name a file of them")):
        with pytest.raises((ValueError, DataError), match=message):
            quantise_onnx(folder, **options)
    with pytest.raises(ValueError, match="holds no exported model"):
        quantise_onnx(tmp_path)


def with_few_tokens(path):
    """Cut the table of the tokens in a graph: it opens, and fails on every text."""
    graph = onnx.load(path)
    table = max(graph.graph.initializer, key=lambda each: each.dims[0] if len(each.dims) == 2 else 0)
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:2], table.name))
    onnx.save(graph, path)


def test_a_graph_that_fails_is_named_with_the_reason(exported, tmp_path):
    folder = shutil.copytree(exported("single")[1], tmp_path / "onnx")
    (folder / "onnx/model_quantized.onnx").unlink(missing_ok=True)
    path = folder / "onnx/model.onnx"
    with_few_tokens(path)
    said = rf"{path} does not run \(.*indices element out of data bounds.*\)$"
    with pytest.raises(ValueError, match=said):
        Predictor(folder)("A fine film.")
    with pytest.raises(ValueError, match=said):
        OnnxModule(path)(**dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), torch.full((1, 2), 5)))
    with pytest.raises(ValueError, match=f"{path} cannot be quantised "):
        quantise_onnx(folder, "static", calibration=["A fine film.", "Dull."])
    (tmp_path / "texts.txt").write_text("A fine film.\n")
    result = tinybert_nb("predict", folder, tmp_path / "texts.txt")
    assert result.returncode and "model.onnx does not run" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("method", ("dynamic", "static"))
def test_a_truncated_graph_is_not_quantised(exported, tmp_path, method):
    folder = shutil.copytree(exported("single")[1], tmp_path / "onnx")
    os.truncate(folder / "onnx/model.onnx", 20_000)
    with pytest.raises(ValueError, match="model.onnx is damaged, or no ONNX model: export the model again"):
        quantise_onnx(folder, method, calibration=["A fine film."])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_calibration_texts_are_not_used(exported, kind):
    _, folder, file = exported(kind)
    names = json.loads((folder / "export.json").read_text())["labels"]
    form = TaskForm(problem=kind)
    assert calibration_examples(file, [*names, "other"], form)
    if kind == "tokens":
        changed = file.with_name("other.conll")
        changed.write_text(file.read_text().replace("neutral", "unheard-of"))
        assert quantise_onnx(folder, "static", calibration=changed)["texts"] == 2
    if kind == "single":
        lines = "A fine film.\tunheard-of\nDull.\tpositive\n"
        (file.parent / "rows.txt").write_text(lines)
        assert quantise_onnx(folder, calibration=file.parent / "rows.txt")["texts"] == 2


def test_seven_bits_are_weights_of_at_most_64(exported, tmp_path):
    _, folder, _ = exported("single")
    for reduced, most in ((False, 127), (True, 64)):
        write_quantised(folder / "onnx/model.onnx", tmp_path / "m.onnx", reduce_range=reduced)
        weights = [numpy_helper.to_array(each) for each in
                   onnx.load(tmp_path / "m.onnx").graph.initializer
                   if each.data_type == onnx.TensorProto.INT8 and "integers" not in each.name]
        largest = max(np.abs(each.astype(int)).max() for each in weights if each.ndim == 2)
        assert most - 1 <= largest <= most


def test_agreement_of_tags_is_that_of_words():
    tags, rows = TaskForm(problem="tokens").kind, [{"label": [0, 1, 0]}]
    one = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0]])

    def answers(logits):
        return [*tags.answers(logits, tags.row_labels(rows), ["a", "b"]).values()]

    assert tags.agreement(answers(one), answers(one.flip(0))) == 1
    assert tags.agreement(answers(one), answers(one[:, [1, 0]])) == 0
    changed = torch.cat([one[:2], one[1:2]])
    assert tags.agreement(answers(one), answers(changed)) == 2 / 3


# Names and the command --------------------------------------------------------------------------


def test_the_public_name_is_the_function():
    assert package.export is export_model


def test_the_command_exports_quantises_and_measures(teacher_run, small_data, tmp_path):
    result = succeeded(tinybert_nb(
        "export", teacher_run / "best", "--out", tmp_path / "onnx", "--quantise", "dynamic",
        "--eval", small_data["eval"], "--json", tmp_path / "rows.json"))
    record, = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert record["max_length"] == 32 and record["quantisation"]["texts"] == 20
    assert "operator set 23" in result.stdout and "| agreement |" in result.stdout
    assert "torch" not in result.stderr, result.stderr
    assert sorted(path.name for path in (tmp_path / "onnx/onnx").iterdir()) == [
        "model.onnx", "model_quantized.onnx"]


def test_bad_options_end_the_command_with_a_sentence(small_teacher, small_data, tmp_path):
    words = ["export", small_teacher, "--out", tmp_path / "onnx"]
    for options, code, said in ((["--eval", small_data["eval"]], 2, "add --quantise dynamic"),
                                (["--quantise", "static"], 2, "needs texts (--calibration FILE)"),
                                (["--to", "flax"], 2, "onnx"),
                                ([], 1, "has no head for a task")):
        result = tinybert_nb(*words, *options)
        assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert not (tmp_path / "onnx").exists()
