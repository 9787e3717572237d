"""How long the browser page of a student takes to load, to read a text, and to draw it; its labels.

    .venv/bin/python scripts/time_page.py [--parts speed labels] [--onnxruntime FOLDER]

Writes nbs/browser/page.json. Speed: random weights, which take as long as trained ones, of the
student TinyBERT-3L-192 of the packaged teacher, whole and with the tokens that 2,000 movie reviews
use twice, and of both models together. Labels: a student that was fine-tuned on these reviews for
200 updates, in the page and in PyTorch before its weights were rounded, on 1,000 others. FOLDER is
an unpacked npm package of onnxruntime-web, whose size and speed, with the same student in float32,
are put beside those of the page; that needs the package onnx.
"""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
import argparse
import json
import os
import shutil
import time

import torch

from sources import ROOT
from system_packages import chromium
from tinybert_nb.analysis.browser_page import browser_page
from tinybert_nb.files.scripts import joined_script
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.data.packaged_texts import movie_reviews
from tinybert_nb.data.splits import TaskFiles
from tinybert_nb.deployment.vocabulary_trimming import trim_vocabulary
from tinybert_nb.evaluation.labelling import predict
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.initialization import student_from_teacher
from tinybert_nb.models.loading import load_config, load_encoder, save_checkpoint
from tinybert_nb.models.sizes import student_config
from tinybert_nb.models.tokenizers import load_tokenizer
from tinybert_nb.recipes.finetuning import finetune
from tinybert_nb.training.settings import FinetuneSettings

DATA = ROOT / "nbs" / "browser" / "page.json"
VIEW = "#attention[data-drawn]"
SENTENCE = ("a warm, funny and patient film about a slow train, two sisters and a dog that nobody "
            "wants, which is much better than its title says.").split()
FORWARD = """([side, count]) => {  // milliseconds of the fastest of 25 forward passes
    const ids = Array.from({length: count}, (_, i) => 5 + 7 * i), types = ids.map(() => 0);
    const times = [];
    for (let i = 0; i < 25; i++) {
        const started = performance.now();
        tinybert[side].model.forward({ids, types});
        times.push(performance.now() - started);
    }
    return Math.min(...times);
}"""
TYPE = """async text => {  // milliseconds from a key to the drawing, for the last keys of the text
    const box = document.getElementById("text"), root = document.getElementById("attention");
    const times = [];
    for (let end = text.length - 40; end <= text.length; end++) {
        box.value = text.slice(0, end);
        const drawn = root.dataset.drawn, started = performance.now();
        box.dispatchEvent(new Event("input"));
        while (root.dataset.drawn === drawn) await new Promise(done => setTimeout(done));
        times.push(performance.now() - started);
        await new Promise(done => setTimeout(done, 30));
    }
    return times;
}"""


RUNTIME = """async count => {  // the same with onnxruntime-web, one thread
    ort.env.wasm.numThreads = 1;
    globalThis.session ??= await ort.InferenceSession.create("model.onnx");
    const ids = BigInt64Array.from({length: count}, (_, i) => BigInt(5 + 7 * i));
    const input_ids = new ort.Tensor("int64", ids, [1, count]), times = [];
    for (let i = 0; i < 25; i++) {
        const started = performance.now();
        await session.run({input_ids});
        times.push(performance.now() - started);
    }
    return Math.min(...times);
}"""
LABELS = """texts => texts.map(text => {
    const {student} = tinybert, {logits} = student.model.forward(student.encode(text));
    return student.labels[logits.indexOf(Math.max(...logits))];
})"""


def compare_labels(opened, folder: Path) -> dict:
    """Accuracy in the page and in PyTorch, and how many labels are the same."""
    for name, count in (("train", 2000), ("dev", 300), ("test", 1000)):
        lines = movie_reviews()[name].read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts, gold = zip(*(line.rsplit("\t", 1) for line in lines))
    teacher, tokenizer = load_encoder(DEFAULT_TEACHER), load_tokenizer(DEFAULT_TEACHER)
    sample = dict(tokenizer([*texts[:64]], truncation=True, max_length=64, padding=True, return_tensors="pt"))
    student, _ = student_from_teacher(teacher, student_config("tinybert-3l-192", teacher.config),
                                      (2, 4, 6), [sample])
    save_checkpoint(folder / "initial", student, tokenizer)
    run = finetune(TaskFiles(folder / "train.txt", folder / "dev.txt"), folder / "initial",
                   folder / "run", FinetuneSettings(steps=200, max_length=64, learning_rate=1e-3))
    before = [row["label"] for row in predict(run.checkpoint, [*zip(texts, gold)], max_length=64)]
    browser_page(run.checkpoint, folder / "labels.html")
    tab = opened.new_page()
    tab.goto((folder / "labels.html").as_uri())
    tab.wait_for_selector(VIEW)
    shown = tab.evaluate(LABELS, [*texts])
    tab.close()

    def same(some, others) -> int:
        return sum(one == other for one, other in zip(some, others, strict=True))

    return {"texts": len(texts), "same": same(shown, before), "right in the page": same(shown, gold),
            "right before rounding": same(before, gold)}


def save_models(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Checkpoints of random weights; name -> student and teacher of a page."""
    tokenizer, config = load_tokenizer(DEFAULT_TEACHER), load_config(DEFAULT_TEACHER)
    for name, settings in (("student", student_config("tinybert-3l-192", config)),
                           ("teacher", config)):
        save_checkpoint(folder / name, new_student(settings), tokenizer)
    lines = movie_reviews()["train"].read_text(encoding="utf-8").splitlines()[:2000]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    trim_vocabulary(folder / "student", folder / "texts.txt", folder / "trimmed", minimum=2)
    return {"student": (folder / "student", None), "trimmed student": (folder / "trimmed", None),
            "student and teacher": (folder / "student", folder / "teacher")}


def measure(opened, name: str, models: tuple[Path, Path | None], page: Path) -> tuple[dict, list]:
    """The row of one page, and the times from key to drawing."""
    record = browser_page(models[0], page, models[1])
    tab = opened.new_page()
    started = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_selector(VIEW)
    load = time.perf_counter() - started
    side = "teacher" if models[1] else "student"
    tab.wait_for_function(f"tinybert.{side}")
    forward = {count: tab.evaluate(FORWARD, [side, count]) for count in (10, 30, 60)}
    keys = tab.evaluate(TYPE, " ".join(SENTENCE))
    tab.close()
    row = {"model": name, "vocabulary": load_config(models[0]).vocab_size, "page": record["bytes"],
           "load": load, "timed": side, "forward": forward}
    return row, keys


class Logits(torch.nn.Module):
    """A classifier from token ids alone to its logits, for the export."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        """Logits of a batch without padding."""
        return self.model(input_ids).logits


def time_runtime(opened, package: Path, folder: Path) -> dict[int, float]:
    """Milliseconds of the student in onnxruntime-web, float32, from a server of this process."""
    model = new_student(student_config("tinybert-3l-192", load_config(DEFAULT_TEACHER))).eval()
    ids = torch.arange(5, 35)[None]
    torch.onnx.export(Logits(model), (ids,), str(folder / "model.onnx"), input_names=["input_ids"],
                      dynamic_axes={"input_ids": {1: "length"}}, dynamo=False)
    for path in [*package.glob("dist/ort.wasm.min.js"), *package.glob("dist/ort-wasm-simd-threaded.*")]:
        shutil.copy(path, folder)
    (folder / "index.html").write_text("<!doctype html><script src=ort.wasm.min.js></script>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        tab = opened.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        found = {count: tab.evaluate(RUNTIME, count) for count in (10, 30, 60)}
        tab.close()
        server.shutdown()
    return found


def time_pages(opened, folder: Path) -> dict:
    """The rows of all pages, the times from key to drawing, and on what they were measured."""
    found = {name: measure(opened, name, models, folder / f"{name}.html")
             for name, models in save_models(folder).items()}
    keys = found["student"][1]
    hardware = (f"Chromium {opened.version.split('.')[0]}, {os.cpu_count()} CPU cores, which other "
                f"programs used too, load {os.getloadavg()[0]:.1f}")
    return {"pages": [row for row, _ in found.values()], "hardware": hardware,
            "key": {"median": median(keys), "most": max(keys), "keys": len(keys)}}


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--onnxruntime", type=Path, help="folder `package` of the npm package")
    parser.add_argument("--parts", nargs="+", choices=["speed", "labels"], default=["speed", "labels"],
                        help="what to measure; the rest is kept")
    given = parser.parse_args()
    measured = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    measured["scripts"] = len(joined_script("analysis/browser_page.js").encode())
    with TemporaryDirectory() as temporary, chromium() as opened:
        if "speed" in given.parts:
            measured |= time_pages(opened, Path(temporary))
        if given.onnxruntime:
            about = json.loads((given.onnxruntime / "package.json").read_text(encoding="utf-8"))
            measured["onnxruntime-web"] = {
                "version": about["version"], "wasm": min(
                    path.stat().st_size for path in given.onnxruntime.glob("dist/*.wasm")),
                "forward": time_runtime(opened, given.onnxruntime, Path(temporary))}
        if "labels" in given.parts:
            measured["labels"] = compare_labels(opened, Path(temporary))
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(DATA.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
