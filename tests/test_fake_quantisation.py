"""Fake quantisation leaves a model as it was, and stage two trains, resumes and evaluates in it."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification,
                          DistilBertConfig, DistilBertForQuestionAnswering, RobertaConfig,
                          RobertaForTokenClassification)

from conftest import history_rows, small_tokenizer, together
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.distillation.distiller import Distiller, Term
from tinybert_nb.models.fake_quantisation import (
    fake_quantised, fake_quantise_activations, fake_quantise_rows)
from tinybert_nb.models.initialization import save_random_model
from tinybert_nb.models.trace import compile_model, trace_forward
from tinybert_nb.recipes import finetuning
from tinybert_nb.recipes.stage_two import StageTwoStep, stage_two
from tinybert_nb.training.loop import Evaluation, train
from tinybert_nb.training.checkpoint import latest_state, save_state
from tinybert_nb.training.processes import processes
from tinybert_nb.training.rerun import settings_from_dict
from tinybert_nb.training.runs import load_trained
from tinybert_nb.training.settings import StageTwoSettings, TrainingSettings
from tinybert_nb.training.status import run_status

SIZES = dict(vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
             intermediate_size=48, max_position_embeddings=40)
BRIEF = StageTwoSettings(epochs=2, batch_size=12, max_length=32, learning_rate=2e-3, precision="no",
                         quantised=True)


def bert(dropout: float = 0.0) -> BertForSequenceClassification:
    """A small classifier with weights of a trained model's size, which rounding changes."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(
        **SIZES, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout))
    for weight in model.parameters():
        weight.data.mul_(3)
    return model


def batch_of(rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    """Token ids with some padding in the last row."""
    numbers = torch.Generator().manual_seed(rows)
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[-1, length // 2:] = 0
    return {"input_ids": torch.randint(5, 60, (rows, length), generator=numbers),
            "attention_mask": mask}


# The context ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classes", "spans", "tags", "tied"])
def test_a_model_is_the_same_after_the_block_and_another_inside(kind):
    torch.manual_seed(0)
    model = {"classes": bert,
             "spans": lambda: DistilBertForQuestionAnswering(DistilBertConfig(
                 vocab_size=60, dim=24, n_layers=2, n_heads=2, hidden_dim=48)),
             "tags": lambda: RobertaForTokenClassification(RobertaConfig(**SIZES)),
             "tied": lambda: BertForMaskedLM(BertConfig(**SIZES))}[kind]().eval()
    batch, state = batch_of(), copy.deepcopy(model.state_dict())
    objects, before = [*map(id, model.parameters())], trace_forward(model, batch)
    with fake_quantised(model):
        inside = trace_forward(model, batch)
    after = trace_forward(model, batch)
    assert [*map(id, model.parameters())] == objects
    assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
    assert not any("forward" in vars(layer) for layer in model.modules())
    for name in ("logits", "queries", "keys", "hidden_states"):
        one, two, three = (getattr(each, name) for each in (before, inside, after))
        last = (one, two, three) if name == "logits" else (one[-1], two[-1], three[-1])
        assert torch.equal(last[0], last[2]) and not torch.equal(last[0], last[1]), name
        assert (last[0] - last[1]).abs().max() < 0.1


def test_an_exception_ends_the_block_and_twice_is_refused():
    model, batch = bert().eval(), batch_of()
    before = model(**batch).logits
    with pytest.raises(KeyError), fake_quantised(model):
        raise KeyError("inside")
    with fake_quantised(model.bert):
        with pytest.raises(ValueError, match="layer bert.* entered twice"), fake_quantised(model):
            pass
        assert not torch.equal(model(**batch).logits, before)  # the outer block goes on
    assert torch.equal(model(**batch).logits, before)
    with pytest.raises(ValueError, match="LayerNorm has no linear layer"):
        with fake_quantised(torch.nn.LayerNorm(2)):
            pass


def test_the_gradient_is_that_of_the_rounded_weights():
    """Straight through: what a model with rounded weights as its parameters would get."""
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(6, 4), torch.randn(5, 6, requires_grad=True)
    weight = fake_quantise_rows(layer.weight).detach().requires_grad_()
    given = fake_quantise_activations(inputs).detach().requires_grad_()
    (given @ weight.T + layer.bias).square().sum().backward()
    with fake_quantised(layer):
        layer(inputs).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad)
    torch.testing.assert_close(inputs.grad, given.grad)


def test_values_of_any_size_are_rounded_to_levels():
    for size in (1e-30, 1.0, 1e30):
        weight = torch.randn(20, 300) * size
        levels = fake_quantise_rows(weight) / (weight.abs().amax(1, keepdim=True) / 127)
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        assert len(fake_quantise_activations(weight).unique()) <= 256
    for function in (fake_quantise_rows, fake_quantise_activations):
        for faulty in (float("nan"), float("inf")):  # reported by the training loop, not hidden
            assert not function(torch.tensor([[1.0, faulty]])).isfinite().all()
        assert torch.equal(function(torch.zeros(2, 2)), torch.zeros(2, 2))
        assert function(torch.full((2, 2), 1e-44)).isfinite().all()
    for one_sided in (torch.rand(50) + 3, -torch.rand(50) - 3):
        rounded = fake_quantise_activations(one_sided)
        assert (rounded - one_sided).abs().max() <= one_sided.abs().max() / 255 * 0.51


def test_a_compiled_model_is_rounded_inside_the_block_only():
    plain, compiled, batch = bert().eval(), bert().eval(), batch_of()
    with fake_quantised(plain):
        expected = plain(**batch).logits
    with fake_quantised(compiled):
        compile_model(compiled, backend="aot_eager")
        torch.testing.assert_close(compiled(**batch).logits, expected)
    torch.testing.assert_close(compiled(**batch).logits, plain(**batch).logits)


# Training in it ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(small_data, tmp_path_factory) -> tuple[TaskFiles, Path, Path]:
    """Files, and folders of a teacher and a student with classifiers of random weights."""
    folder, models = tmp_path_factory.mktemp("models"), []
    for name in ("teacher", "student"):
        place = save_random_model(folder / f"{name}-start", "2l-24-12h", small_tokenizer())
        finetuning.finetune(TaskFiles(small_data["train"], small_data["eval"]), place,
                            folder / name, finetuning.FinetuneSettings(steps=2, max_length=32))
        models.append(folder / name / "last")
    return TaskFiles(small_data["train"], small_data["eval"]), *models


@pytest.fixture(scope="module")
def whole_run(task, tmp_path_factory) -> Path:
    """The run folder of a quantised stage two that nothing stops."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    stage_two(*task, out, BRIEF)
    return out


def test_an_interrupted_run_ends_bit_for_bit_like_a_whole_one(task, whole_run, tmp_path):
    def fail(row):
        if row["split"] == "dev":
            raise KeyError("somebody stops it")

    with pytest.raises(KeyError):
        stage_two(*task, tmp_path / "run", BRIEF, watch=fail)
    assert not (tmp_path / "run/result.json").exists()
    stage_two(*task, tmp_path / "run", BRIEF)
    assert history_rows(tmp_path / "run") == history_rows(whole_run)
    for name in ("best", "last"):
        first, second = (run / name / "model.safetensors" for run in (tmp_path / "run", whole_run))
        assert first.read_bytes() == second.read_bytes()


def test_the_checkpoint_is_float_and_the_record_says_quantised(task, whole_run, tmp_path):
    weights = load_file(whole_run / "last/model.safetensors")
    table = weights["bert.embeddings.word_embeddings.weight"]
    assert table.dtype == torch.float32 and not torch.equal(fake_quantise_rows(table), table)
    stage_two(*task, tmp_path / "usual", replace(BRIEF, quantised=False))
    usual = load_file(tmp_path / "usual/last/model.safetensors")
    assert usual.keys() == weights.keys()
    assert not torch.equal(usual["classifier.weight"], weights["classifier.weight"])
    record = json.loads((whole_run / "settings.json").read_text())
    assert record["made_from"]["quantised"] and record["call"]["arguments"]["settings"]["quantised"]
    cards = [(run / "best/README.md").read_text() for run in (whole_run, tmp_path / "usual")]
    assert ["rounded to 8 bits" in card for card in cards] == [True, False]
    with pytest.raises(ValueError, match="quantised: True there, False now"):
        stage_two(*task, whole_run, replace(BRIEF, quantised=False))


@pytest.mark.parametrize("quantised", [True, False])
def test_the_dev_set_is_evaluated_as_it_was_trained(task, tmp_path, monkeypatch, quantised):
    seen, predict = [], finetuning.predict_logits

    def watched(model, loader):
        seen.append((predict(model, loader), loader))
        return seen[-1][0]

    monkeypatch.setattr(finetuning, "predict_logits", watched)
    stage_two(*task, tmp_path / "run", replace(BRIEF, quantised=quantised))
    (logits, loader), (model, _) = seen[-1], load_trained(tmp_path / "run/last")
    usual = predict(model, loader)
    with fake_quantised(model):
        rounded = predict(model, loader)
    assert torch.equal(logits, rounded if quantised else usual)
    assert not torch.equal(logits, usual if quantised else rounded)


def without_the_setting(run: Path) -> dict:
    """The record of a run as an earlier version left it, without the field `quantised`."""
    record = json.loads((run / "settings.json").read_text())
    for settings in (record["made_from"], record["call"]["arguments"]["settings"]):
        assert settings.pop("quantised") is False
    (run / "settings.json").write_text(json.dumps(record))
    return record


def test_a_finished_run_without_the_setting_is_the_same_run(task, tmp_path):
    """Status, loading and rerun read it, and a new call finds it; only another setting is refused."""
    usual = replace(BRIEF, quantised=False)
    result = stage_two(*task, tmp_path / "run", usual)
    record = without_the_setting(tmp_path / "run")
    assert run_status(tmp_path / "run")[0]["state"] == "finished"
    assert load_trained(tmp_path / "run/best")[0].num_labels == 2
    with pytest.warns(match="nothing of quantised"):
        found = settings_from_dict(StageTwoSettings, record["call"]["arguments"]["settings"])
    assert found == usual
    stamp = (tmp_path / "run/last/model.safetensors").stat().st_mtime_ns
    assert stage_two(*task, tmp_path / "run", usual) == result
    assert (tmp_path / "run/last/model.safetensors").stat().st_mtime_ns == stamp
    for other, said in ((BRIEF, "quantised: False there, True now"),
                        (replace(usual, temperature=2.0), "temperature: 1.0 there, 2.0 now")):
        with pytest.raises(ValueError, match=said):
            stage_two(*task, tmp_path / "run", other)
    del record["made_from"]["data"]  # no setting
    (tmp_path / "run/settings.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="data.*: nothing there"):
        stage_two(*task, tmp_path / "run", usual)


def test_an_unfinished_run_without_the_setting_is_resumed(task, tmp_path, capfd):
    usual = replace(BRIEF, quantised=False, checkpoint_seconds=0)
    stage_two(*task, tmp_path / "whole", usual)

    def fail(row):
        if row["split"] == "dev":
            raise KeyError("somebody stops it")

    with pytest.raises(KeyError):
        stage_two(*task, tmp_path / "run", usual, watch=fail)
    tensors, about = latest_state(tmp_path / "run")
    assert about["settings"].pop("quantised") is False
    save_state(tmp_path / "run", about["step"], tensors, about, usual.keep_checkpoints)
    without_the_setting(tmp_path / "run")
    capfd.readouterr()
    stage_two(*task, tmp_path / "run", usual)
    assert f"going on after update {about['step']} of" in "".join(capfd.readouterr())
    assert history_rows(tmp_path / "run") == history_rows(tmp_path / "whole")
    record = json.loads((tmp_path / "run/settings.json").read_text())
    assert record["made_from"]["quantised"] is False


def train_quantised(folder: Path, quantised: bool = True) -> None:
    """Six updates of four rows, the last two of which repeat the first two; weights in a file."""
    rank, student, half = processes().process_index, bert(), batch_of(2)
    batch = {name: tensor.repeat(2, 1) for name, tensor in half.items()}
    batch |= {"labels": torch.tensor([0, 1, 0, 1]), "row": torch.tensor([0, 1, 0, 1])}
    step = StageTwoStep(student, torch.tensor([[2.0, -1.0], [-1.0, 1.0]]),
                        Distiller([Term("prediction")]))
    settings = TrainingSettings(steps=6, learning_rate=1e-3, precision="no")
    evaluation = Evaluation(lambda: {"loss": 1.0}, "loss", larger_is_better=False)
    with fake_quantised(student) if quantised else nullcontext():
        train(step, [batch] * 6, settings, folder, lambda path: path.mkdir(exist_ok=True), evaluation)
    torch.save(student.state_dict(), folder / f"rank-{rank}.pt")


def test_two_processes_train_the_weights_of_one(tmp_path):
    """Each has the same two rows, whose activations have the same range as in the whole batch."""
    for name in ("two", "one", "usual"):
        (tmp_path / name).mkdir()
    together(train_quantised, tmp_path / "two")
    first, second = (torch.load(tmp_path / f"two/rank-{rank}.pt") for rank in (0, 1))
    train_quantised(tmp_path / "one")
    train_quantised(tmp_path / "usual", quantised=False)
    one, usual = (torch.load(tmp_path / name / "rank-0.pt") for name in ("one", "usual"))
    start = bert().state_dict()
    assert processes().num_processes == 1
    assert all(torch.equal(first[name], second[name]) for name in one)

    def apart(some, others) -> float:
        names = [name for name in one if not name.endswith("key.bias")]  # its gradient is noise
        return sum((some[name] - others[name]).square().sum().item() for name in names) ** 0.5

    # sums in another order may move a value that lies between two levels to the other one
    assert apart(first, one) < 0.05 * apart(one, usual) < 0.05 * apart(one, start)
