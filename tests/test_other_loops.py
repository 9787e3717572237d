"""`DistillationTrainer`: resuming, accumulation, processes and evaluation, as in this package's loop."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import BertConfig, PrinterCallback, TrainerCallback, TrainingArguments

from conftest import together
from tinybert_nb.data.batches import pad_batch
from tinybert_nb.distillation.distiller import Distiller, Schedule, Term
from tinybert_nb.distillation.layer_map import uniform_map
from tinybert_nb.distillation.projections import Projections
from tinybert_nb.models.heads import new_student
from tinybert_nb.recipes.other_loops import DistillationStep, DistillationTrainer
from tinybert_nb.recipes.stage_two import StageTwoStep
from tinybert_nb.training.intermediate import IntermediateStep, mean_terms, switch_off_dropout
from tinybert_nb.training.loop import Evaluation, train
from tinybert_nb.training.optimizer import make_optimizer, rate_factor
from tinybert_nb.training.settings import TrainingSettings

SIZES = dict(vocab_size=60, num_attention_heads=2, max_position_embeddings=32)
COLLATE = partial(pad_batch, pad_token_id=0)


def rows_of(count: int, first: int = 0) -> Dataset:
    """Rows of 3 to 14 tokens, numbered from `first`."""
    random = torch.Generator().manual_seed(first)
    lengths = torch.randint(3, 15, (count,), generator=random).tolist()
    return Dataset.from_list([
        {"input_ids": torch.randint(1, 60, (length,), generator=random).tolist(),
         "label": number % 2, "row": first + number, "length": length}
        for number, length in enumerate(lengths)])


def models(dropout: bool = False):
    """A teacher and a student, always with the same weights."""
    teacher = new_student(BertConfig(**SIZES, hidden_size=16, num_hidden_layers=2,
                                     intermediate_size=32))
    student = new_student(BertConfig(**SIZES, hidden_size=8, num_hidden_layers=1,
                                     intermediate_size=16), seed=1)
    if not dropout:
        switch_off_dropout(student)
    return teacher, student


def stage_one_step(dropout: bool = False, hidden: float | Schedule = 1.0) -> IntermediateStep:
    """Means over tokens and over pairs of tokens, with projections."""
    teacher, student = models(dropout)
    torch.manual_seed(0)
    terms = [Term("embedding"), Term("hidden", weight=hidden), Term("attention")]
    return IntermediateStep(
        student, Distiller(terms, uniform_map(2, 1), Projections(8, 16, student_layers=1)), teacher)


class OwnStep(nn.Module):
    """A step without the optional methods: the mean over rows of the student's first logit."""

    def __init__(self):
        super().__init__()
        self.student = models()[1]

    def forward(self, batch):
        logits = self.student(batch["input_ids"], batch["attention_mask"]).logits
        return {"loss": (logits[:, 0] - batch["labels"]).square().mean()}


def settings_of(updates: int, **changes) -> TrainingSettings:
    usual = dict(steps=updates, learning_rate=1e-2, history_every=1, precision="no")
    return TrainingSettings(**usual | changes)


def trainer_of(step, folder: Path, data, evaluation=None, updates: int = 8, callbacks=None,
               **changes):
    """A trainer with the optimizer and schedule of this package, in the order of the rows."""
    usual = dict(per_device_train_batch_size=8, per_device_eval_batch_size=8, max_steps=updates,
                 logging_steps=1, train_sampling_strategy="sequential", save_strategy="no",
                 report_to="none", dataloader_pin_memory=False, disable_tqdm=True, use_cpu=True)
    settings = settings_of(updates)
    optimizer = make_optimizer(step, settings)
    schedule = LambdaLR(optimizer, lambda update: rate_factor(update, updates, settings))
    trainer = DistillationTrainer(
        step, TrainingArguments(str(folder), **usual | changes), COLLATE, data, evaluation,
        optimizers=(optimizer, schedule), callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def logged(trainer) -> list[dict]:
    """The rows of the log that hold training losses."""
    return [row for row in trainer.state.log_history if "loss" in row]


def our_history(step, folder: Path, data, updates: int = 8, **changes) -> list[dict]:
    """The training rows of this package's loop on the same batches."""
    loader = DataLoader(data, batch_size=8, collate_fn=COLLATE)
    evaluation = Evaluation(lambda: {"loss": 0.0}, "loss", larger_is_better=False)
    rows = train(step, loader, settings_of(updates, **changes), folder, lambda path: None, evaluation)
    return [row for row in rows if row["split"] == "train"]


def assert_equal_weights(found, expected, **tolerance):
    pairs = zip(found.parameters(), expected.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, **tolerance or dict(rtol=0, atol=0))


class StopAfter(TrainerCallback):
    """Ends training after an update, as a user does who interrupts it."""

    def __init__(self, update: int):
        self.update = update

    def on_step_end(self, args, state, control, **more):
        control.should_training_stop = state.global_step == self.update


@pytest.mark.parametrize("stop", [3, 4, 6])
def test_a_stopped_run_resumes_and_ends_as_one_that_ran_through(tmp_path, stop):
    """In the middle of an epoch and at its end, with dropout and rows in random order."""
    shared = dict(data=rows_of(32), train_sampling_strategy="random", save_strategy="steps",
                  save_steps=1)
    whole = trainer_of(stage_one_step(dropout=True), tmp_path / "whole", **shared)
    whole.train()
    stopped = trainer_of(stage_one_step(dropout=True), tmp_path / "cut", **shared,
                         callbacks=[StopAfter(stop)])
    stopped.train()
    assert stopped.state.global_step == stop
    resumed = trainer_of(stage_one_step(dropout=True), tmp_path / "cut", **shared)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(resumed.model, whole.model)
    assert [row["loss"] for row in logged(resumed)] == [row["loss"] for row in logged(whole)]
    assert [row["hidden"] for row in logged(resumed)] == [row["hidden"] for row in logged(whole)]


def test_a_checkpoint_holds_the_projections_beside_the_student(tmp_path):
    trainer = trainer_of(stage_one_step(), tmp_path, rows_of(16), save_strategy="steps", save_steps=8)
    trainer.train()
    trainer.save_model(tmp_path / "student")
    beside = load_file(tmp_path / "checkpoint-8/step.safetensors")
    assert {*beside} == {f"distiller.projections.maps.{name}.weight"
                         for name in ("embedding", "hidden")}
    for folder in ("checkpoint-8", "student"):
        names = {*load_file(tmp_path / folder / "model.safetensors")}
        assert names == {*trainer.model.student.state_dict()}
    assert not (tmp_path / "student/step.safetensors").exists()
    assert json.loads((tmp_path / "student/config.json").read_text())["num_hidden_layers"] == 1


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path):
    """The learning rate makes the loss rise after the first update."""
    trainer = trainer_of(stage_one_step(), tmp_path, rows_of(32), rows_of(12, first=100),
                         eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
                         load_best_model_at_end=True, metric_for_best_model="eval_hidden",
                         greater_is_better=False)
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 0.5
    trainer.lr_scheduler.base_lrs = [0.5, 0.5]
    trainer.train()
    measured = [row["eval_hidden"] for row in trainer.state.log_history if "eval_hidden" in row]
    best = min(measured)
    assert len(measured) == 8 and best < measured[-1]
    assert trainer.evaluate()["eval_hidden"] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("changes", [
    {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
])
def test_accumulated_micro_batches_are_one_update(tmp_path, changes):
    """Micro-batches have other widths and numbers of tokens, and the update does not change."""
    count = changes["per_device_train_batch_size"] * changes["gradient_accumulation_steps"]
    data = rows_of(4 * count)
    whole = trainer_of(stage_one_step(), tmp_path / "whole", data,
                       per_device_train_batch_size=count)
    whole.train()
    parts = trainer_of(stage_one_step(), tmp_path / "parts", data, **changes)
    parts.train()
    for name in ("loss", "embedding", "hidden", "attention"):
        assert [row[name] for row in logged(parts)] == pytest.approx(
            [row[name] for row in logged(whole)], rel=1e-5)
    assert_equal_weights(parts.model, whole.model, rtol=1e-3, atol=1e-5)


def test_accumulation_gives_the_history_of_our_loop(tmp_path):
    ours = our_history(stage_one_step(), tmp_path / "ours", rows_of(32), accumulation=2)
    trainer = trainer_of(stage_one_step(), tmp_path / "trainer", rows_of(32),
                         per_device_train_batch_size=4, gradient_accumulation_steps=2)
    trainer.train()
    assert [row["loss"] for row in logged(trainer)] == pytest.approx(
        [row["loss"] for row in ours], rel=1e-5)


def test_a_step_of_ones_own_is_weighted_by_rows(tmp_path):
    """Ten rows in micro-batches of 4, 4 and 2."""
    data = rows_of(10)
    whole, parts = (trainer_of(OwnStep(), tmp_path / str(size), data, updates=3,
                               per_device_train_batch_size=size, gradient_accumulation_steps=count)
                    for size, count in ((10, 1), (4, 3)))
    whole.train()
    parts.train()
    assert [row["loss"] for row in logged(parts)] == pytest.approx(
        [row["loss"] for row in logged(whole)], rel=1e-5)


def test_a_schedule_gives_the_history_of_our_loop(tmp_path):
    def new_step():
        return stage_one_step(hidden=Schedule(1.0, 0.0))

    ours = our_history(new_step(), tmp_path / "ours", rows_of(32))
    trainer = trainer_of(new_step(), tmp_path / "trainer", rows_of(32))
    trainer.train()
    names = ("loss", "hidden", "hidden_weighted")
    assert [[row[name] for name in names] for row in logged(trainer)] == [
        [row[name] for name in names] for row in ours]


def test_stage_two_gives_the_history_of_our_loop(tmp_path):
    logits = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))

    def new_step():
        terms = [Term("prediction", options={"temperature": 2.0}), Term("gold", weight=0.5)]
        return StageTwoStep(models()[1], logits, Distiller(terms))

    ours, step = new_step(), new_step()
    history = our_history(ours, tmp_path / "ours", rows_of(32))
    trainer = trainer_of(step, tmp_path / "trainer", rows_of(32))
    trainer.train()
    assert [row["loss"] for row in logged(trainer)] == [row["loss"] for row in history]
    assert_equal_weights(step, ours)


def test_evaluated_terms_are_means_over_rows(tmp_path):
    """Twelve rows in batches of 8 and 4."""
    step, data = stage_one_step(), rows_of(12)
    found = trainer_of(step, tmp_path, rows_of(8), data).evaluate()
    expected = mean_terms(step.eval(), DataLoader(data, batch_size=8, collate_fn=COLLATE))
    for name, value in expected.items():
        assert found[f"eval_{name}"] == pytest.approx(value, rel=1e-5)


def test_rows_without_numbers_have_predictions_but_no_loss(tmp_path):
    def only_inputs(rows):
        batch = COLLATE([row | {"label": 0, "row": 0} for row in rows])
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    step = StageTwoStep(models()[1], torch.zeros(8, 2), Distiller([Term("prediction")]))
    trainer = trainer_of(step, tmp_path, rows_of(8))
    trainer.data_collator = only_inputs
    found = trainer.predict(rows_of(12).select_columns("input_ids"))
    assert found.predictions.shape == (12, 2) and "test_loss" not in found.metrics


def test_row_numbers_without_teacher_logits_are_refused(tmp_path):
    step = StageTwoStep(models()[1], torch.zeros(8, 2), Distiller([Term("prediction")]))
    with pytest.raises(ValueError, match="row 8 has no teacher logits, which are those of 8 rows"):
        trainer_of(step, tmp_path, rows_of(9)).train()


def test_models_that_do_not_fit_are_refused():
    teacher, student = models()
    other = new_student(BertConfig(**SIZES | {"vocab_size": 61}, hidden_size=16,
                                   num_hidden_layers=2, intermediate_size=32))
    distiller = Distiller([Term("prediction")])
    DistillationStep(student, distiller, teacher)
    with pytest.raises(ValueError, match="both must use the same vocabulary"):
        DistillationStep(student, distiller, other)


def test_several_gpus_in_one_process_are_refused(tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    arguments._n_gpu = 2
    with pytest.raises(ValueError, match="start the program with torchrun"):
        DistillationTrainer(stage_one_step(), arguments)


def train_together(folder: Path) -> None:
    """Four rows in each of two processes; the first writes losses and weights."""
    trainer = trainer_of(stage_one_step(), folder / "shared", rows_of(32), rows_of(16),
                         per_device_train_batch_size=4, per_device_eval_batch_size=4)
    trainer.train()
    found = trainer.evaluate()
    assert trainer.args.world_size == 2
    if trainer.is_world_process_zero():
        (folder / "log.json").write_text(json.dumps([logged(trainer), found]))
        torch.save(trainer.model.state_dict(), folder / "weights.pt")


def test_two_processes_do_the_work_of_one(tmp_path):
    together(train_together, tmp_path)
    rows, found = json.loads((tmp_path / "log.json").read_text())
    alone = trainer_of(stage_one_step(), tmp_path / "alone", rows_of(32), rows_of(16),
                       per_device_eval_batch_size=4)
    alone.train()
    for name in ("loss", "embedding", "hidden", "attention"):
        assert [row[name] for row in rows] == pytest.approx(
            [row[name] for row in logged(alone)], rel=1e-4)
    assert found["eval_hidden"] == pytest.approx(alone.evaluate()["eval_hidden"], rel=1e-4)
    for name, tensor in torch.load(tmp_path / "weights.pt").items():
        torch.testing.assert_close(tensor, alone.model.state_dict()[name], rtol=1e-3, atol=1e-5)
