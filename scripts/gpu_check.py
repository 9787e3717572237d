"""Check and measure this package on a GPU, in one call of a few minutes, without files or network.

    python scripts/gpu_check.py OUT                    # all parts, at most 8 minutes
    python scripts/gpu_check.py OUT --tiny             # a rehearsal with tiny models, also on a CPU

The parts come in the order of their worth. Each writes OUT/PART.json as soon as it ends: its rows,
or the error that ended it, with device, versions and commit. A part that fails does not end the
others; no part begins after the time is over. Models have random weights and texts random tokens,
since neither agreement nor speed depends on their values.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
import argparse
import copy
import json
import subprocess
import sys
import time
import traceback

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, PreTrainedModel

from tinybert_nb.data.batches import make_loader
from tinybert_nb.distillation.distiller import Distiller
from tinybert_nb.distillation.layer_map import uniform_map
from tinybert_nb.distillation.losses import LOSSES
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.sizes import student_config
from tinybert_nb.models.trace import trace_forward
from tinybert_nb.recipes.general_distillation import training_days
from tinybert_nb.recipes.stage_two import StageTwoStep, stage_two_terms
from tinybert_nb.studies.benchmark import race
from tinybert_nb.studies.reference import our_step
from tinybert_nb.studies.procedures import OURS, make_procedure, text_lengths, train_pass
from tinybert_nb.training.environment import environment, hardware
from tinybert_nb.training.loop import Evaluation, train
from tinybert_nb.training.optimizer import make_optimizer
from tinybert_nb.training.processes import Stopped
from tinybert_nb.training.settings import (
    BenchSettings, StageTwoSettings, TrainingSettings)

ROOT = Path(__file__).resolve().parent.parent
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Size:
    """How large the models and texts of a check are."""

    teacher: str = "bert-base"
    student: str = "tinybert-4l-312"
    rows: int = 3200
    fixed_rows: int = 640
    batch: int = 256  # of general distillation
    repeats: int = 3  # of a timed pass
    texts: tuple[str, ...] = ("sst-2", "128", "512")  # whose lengths the race has


TINY = Size("2l-48-4h", "2l-24-4h", 24, 8, 4, 1, ("sst-2",))


class Padding:
    """The part of a tokenizer that batches need."""

    pad_token_id, model_max_length = 0, 512


def random_rows(lengths: list[int]) -> list[dict]:
    """Texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(1000, 30000, (length,), generator=generator).tolist(),
             "token_type_ids": [0] * length, "label": number % 2, "row": number}
            for number, length in enumerate(lengths)]


def models(size: Size) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A student and a teacher, on the CPU, in eval mode."""
    name = {"bert-base": "12l-768-12h-3072f"}.get(size.teacher, size.teacher)
    teacher = new_student(student_config(name, BertConfig(num_labels=2)), seed=1)
    return new_student(student_config(size.student, teacher.config)).eval(), teacher.eval()


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two tensors, relative to the first."""
    one, other = one.detach().float().cpu(), other.detach().float().cpu()
    return float((one - other).norm() / one.norm().clamp(min=1e-12))


def to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


# Agreement ----------------------------------------------------------------------------------------


def loss_inputs(kind: str, name: str) -> list[Tensor]:
    """Arguments of a registered loss, the student's first."""
    mask = torch.ones(4, 40, dtype=torch.long)
    mask[1, 30:] = mask[3, 5:] = 0
    if kind == "state":
        return [*torch.randn(2, 4, 40, 64).unbind(), mask]
    if kind == "attention":
        return [*torch.randn(4, 4, 6, 40, 16).unbind(), mask]
    if kind == "relation":
        return [*torch.randn(2, 4, 6, 40, 16).unbind(), mask]
    if kind == "prediction":
        return [*torch.randn(2, 4, 3).unbind()]
    labels = {"cross_entropy": torch.tensor([0, 2, 1, 1]), "mse": torch.randn(4, 1)}
    return [torch.randn(4, 1 if name == "mse" else 3),
            labels.get(name, (torch.rand(4, 3) > 0.5).float())]


def losses(size: Size) -> Iterator[dict]:
    """Every loss and its gradient: the CPU against the device, float32 and bfloat16."""
    for kind, known in LOSSES.items():
        for name, loss in known.items():
            torch.manual_seed(0)
            inputs, found = loss_inputs(kind, name), {}
            for what, device, dtype in (("cpu", "cpu", torch.float32),
                                        ("float32", DEVICE, torch.float32),
                                        ("bfloat16", DEVICE, torch.bfloat16)):
                given = [each.detach().to(device, dtype if each.is_floating_point() else None)
                         for each in inputs]
                given[0].requires_grad_()
                value = loss(*given)
                value.backward()
                found[what] = value, given[0].grad
            yield {"loss": f"{kind}/{name}", "value": float(found["cpu"][0].detach())} | {
                f"{what} {part}": apart(found["cpu"][at], found[what][at])
                for what in ("float32", "bfloat16") for at, part in enumerate(("value", "gradient"))}


def traces(size: Size) -> Iterator[dict]:
    """Hidden states and scores of both models."""
    batch = next(iter(make_loader(random_rows([9, 30, 64, 17]), Padding, 4)))
    for name, model in zip(("student", "teacher"), models(size)):
        with torch.inference_mode():
            plain = trace_forward(model, batch)
            for dtype in (torch.float32, torch.bfloat16):
                other = trace_forward(copy.deepcopy(model).to(DEVICE, dtype), to(batch, DEVICE))
                real = batch["attention_mask"].bool()
                layer = model.config.num_hidden_layers - 1
                pairs = real[:, None, :, None] & real[:, None, None]
                pairs = pairs.expand(-1, model.config.num_attention_heads, -1, -1)
                yield {"model": name, "format": str(dtype),
                       "last state": apart(plain.hidden_states[-1][real],
                                           other.hidden_states[-1][real.to(DEVICE)]),
                       "scores": apart(plain.scores(layer)[pairs],
                                       other.scores(layer)[pairs.to(DEVICE)])}


def step_of(stage: str, size: Size, device: torch.device) -> nn.Module:
    """The step of a stage on a device; the same weights at every call."""
    student, teacher = (model.to(device) for model in models(size))
    if stage == "two":
        logits = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
        return StageTwoStep(student, logits, Distiller(stage_two_terms(StageTwoSettings()))).to(device)
    layers = teacher.config.num_hidden_layers, student.config.num_hidden_layers
    torch.manual_seed(0)
    return our_step(student, teacher, uniform_map(*layers)).to(device)


def updates(size: Size) -> Iterator[dict]:
    """One update of each stage: loss, gradient and weights afterwards."""
    batch = next(iter(make_loader(random_rows([9, 30, 64, 17]), Padding, 4)))
    for stage in ("one", "two"):
        found = []
        for device in (torch.device("cpu"), DEVICE):
            step = step_of(stage, size, device).eval()
            optimizer = make_optimizer(step, TrainingSettings(learning_rate=1e-3))
            before = torch.cat([each.detach().flatten().cpu() for each in step.parameters()])
            loss = step(to(batch, device))["loss"]
            loss.backward()
            gradient = torch.cat([each.grad.flatten().cpu() for each in step.parameters()
                                  if each.grad is not None])
            optimizer.step()
            after = torch.cat([each.detach().flatten().cpu() for each in step.parameters()])
            found.append((loss, gradient, after - before))
        yield {"stage": stage} | {part: apart(*(each[at] for each in found))
                                 for at, part in enumerate(("loss", "gradient", "change"))}


# The training loop --------------------------------------------------------------------------------


def run(size: Size, folder: Path, watch: Callable | None = None, rows: int = 64, **changes):
    """A short stage one: its history, and its weights as one vector."""
    step = step_of("one", size, DEVICE)
    settings = TrainingSettings(**{"precision": "no", "epochs": 2, "batch_size": 8, "history_every": 1,
                                   "learning_rate": 1e-4} | changes)
    loader = make_loader(random_rows(text_lengths("sst-2", rows)), Padding, settings.batch_size,
                         seed=0)

    def measure():
        batch = next(iter(loader))
        return {"loss": float(step(to(batch, DEVICE))["loss"].detach())}

    history = train(step, loader, settings, folder, lambda place: place.mkdir(parents=True, exist_ok=True),
                    Evaluation(measure, "loss", larger_is_better=False), watch=watch)
    weights = torch.cat([each.detach().float().flatten().cpu() for each in step.parameters()])
    return history, weights


def last_loss(history: list[dict]) -> float:
    return [row["loss"] for row in history if row["split"] == "train"][-1]


def features(size: Size) -> Iterator[dict]:
    """Accumulation, TF32, fp16 with its scaler, compilation, resuming."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        history, plain = run(size, folder / "plain")
        yield {"what": "plain", "loss": last_loss(history)}
        history, weights = run(size, folder / "parts", accumulation=4)
        yield {"what": "accumulation 4", "loss": last_loss(history), "weights": apart(plain, weights)}
        yield resumed(size, folder, plain)
        for what, changes in (("tf32", {"tf32": True}), ("bf16", {"precision": "bf16"}),
                              ("fp16", {"precision": "fp16"}), ("compile", {"compile": True})):
            if DEVICE.type == "cpu" and what in ("fp16", "compile"):
                continue
            torch._dynamo.utils.counters.clear()
            started = time.perf_counter()
            history, weights = run(size, folder / what, **changes)
            yield {"what": what, "loss": last_loss(history), "weights": apart(plain, weights),
                   "seconds": time.perf_counter() - started,
                   "finite": bool(torch.isfinite(weights).all()),
                   "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"]}


def resumed(size: Size, folder: Path, plain: Tensor) -> dict:
    """A run that is stopped in the middle, and goes on."""
    import signal

    def stop(row):
        if row["split"] == "train" and row["step"] == 5:
            signal.raise_signal(signal.SIGTERM)

    try:
        run(size, folder / "stopped", watch=stop)
    except Stopped:
        pass
    _, weights = run(size, folder / "stopped")
    return {"what": "stopped and resumed", "weights": apart(plain, weights)}


def too_large(size: Size) -> Iterator[dict]:
    """A batch that cannot fit is halved, until it does, and the update is the same."""
    if DEVICE.type == "cpu":
        yield {"what": "needs a GPU"}
        return
    with TemporaryDirectory() as place:
        free, _ = torch.cuda.mem_get_info()
        hog = torch.empty(int(free - 3 * 2**30), dtype=torch.uint8, device=DEVICE)
        history, _ = run(size, Path(place) / "halved", rows=512, batch_size=512, epochs=1,
                         find_batch_size=True)
        yield {"what": "halved", "loss": last_loss(history), "held": hog.numel() / 2**30}


# Speed --------------------------------------------------------------------------------------------


def kernels(size: Size) -> Iterator[dict]:
    """Which attention kernels take a head size with a padding mask, and how fast they are."""
    rows = 1 if size is TINY else 32
    for head in (26, 32, 64):
        for name in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"):
            query, key, value = torch.randn(3, rows, 12, 128, head, device=DEVICE,
                                            dtype=torch.bfloat16).unbind()
            mask = torch.ones(rows, 1, 1, 128, dtype=torch.bool, device=DEVICE)
            mask[:, :, :, 100:] = False
            try:
                with sdpa_kernel([getattr(SDPBackend, name)]):
                    for _turn in range(2):
                        started = time.perf_counter()
                        for _ in range(20):
                            scaled_dot_product_attention(query, key, value, attn_mask=mask)
                        if DEVICE.type == "cuda":
                            torch.cuda.synchronize()
                        taken = (time.perf_counter() - started) / 20
                yield {"head size": head, "kernel": name, "ms": 1000 * taken}
            except RuntimeError as error:
                yield {"head size": head, "kernel": name, "refused": str(error).splitlines()[0]}


def speed(size: Size) -> Iterator[dict]:
    """Stage one against the reference procedure, at two lengths and in both formats."""
    for texts in size.texts:
        length = 512 if texts == "512" else 128
        rows = size.rows if length == 128 else size.rows // 8
        for precision in ("bf16", "no"):
            settings = BenchSettings(teacher=size.teacher, student=size.student, texts=texts,
                                     rows=rows, fixed_rows=min(rows, size.fixed_rows),
                                     batch_size=32, repeats=size.repeats, stages=("one",), length=(length,),
                                     precision=precision)
            given = Padding(), random_rows(text_lengths(texts, rows))
            yield from ({"asked": precision} | row for row in race(settings, "one", length, given))


def general(size: Size) -> Iterator[dict]:
    """General distillation: tokens a second, and what three passes over Wikipedia would take."""
    settings = BenchSettings(teacher=size.teacher, student=size.student, texts="128",
                             rows=8 * size.batch, fixed_rows=size.batch, batch_size=size.batch)
    given = Padding(), random_rows([128] * settings.rows)
    procedure = make_procedure(OURS, settings, "one", 128, given)
    train_pass(procedure, updates=2)
    seconds = train_pass(procedure)
    rate = 128 * settings.rows / seconds
    yield {"tokens a second": rate, "days for Wikipedia, 3 passes": training_days(rate),
           "batch": size.batch, "seconds": seconds}


PARTS = (losses, traces, updates, features, too_large, kernels, speed, general)


def about() -> dict:
    """Device, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {"commit": commit.stdout.strip(), "device": hardware(), **environment()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the rows")
    parser.add_argument("--tiny", action="store_true", help="tiny models, a rehearsal")
    parser.add_argument("--seconds", type=float, default=480, help="no part begins after this")
    parser.add_argument("--parts", nargs="+", choices=[part.__name__ for part in PARTS])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    size, end, failed = (TINY if given.tiny else Size()), time.time() + given.seconds, 0
    for part in PARTS:
        if given.parts and part.__name__ not in given.parts:
            continue
        if time.time() > end:
            print(f"{part.__name__}: no time left", flush=True)
            failed += 1
            continue
        started, rows, error = time.time(), [], None
        try:
            for row in part(size):
                rows.append(row)
        except Exception:
            error, failed = traceback.format_exc(), failed + 1
        content = {"part": part.__name__, "rows": rows, "error": error,
                   "seconds": time.time() - started, **about()}
        (given.out / f"{part.__name__}.json").write_text(json.dumps(content, indent=1, default=str))
        print(f"{part.__name__}: {len(rows)} rows, {time.time() - started:.0f} s"
              + (f", FAILED\n{error}" if error else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
