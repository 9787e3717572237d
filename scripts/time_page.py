"""How long the browser page of a student takes to load, to read a text, and to draw it.

    .venv/bin/python scripts/time_page.py [--onnxruntime FOLDER]    # writes nbs/browser/page.json

Random weights, which take as long as trained ones: the student TinyBERT-3L-192 of the packaged
teacher, whole and with the tokens that 2,000 movie reviews use twice, and both models together.
FOLDER is an unpacked npm package of onnxruntime-web, whose size is put beside that of the page.
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
import argparse
import json
import os
import time

from sources import ROOT
from system_packages import chromium
from tinybert_nb.analysis.browser_page import SCRIPTS, _static, browser_page
from tinybert_nb.data.catalogue import DEFAULT_TEACHER
from tinybert_nb.data.packaged_texts import movie_reviews
from tinybert_nb.deployment.vocabulary_trimming import trim_vocabulary
from tinybert_nb.models.heads import new_student
from tinybert_nb.models.loading import load_config, save_checkpoint
from tinybert_nb.models.sizes import student_config
from tinybert_nb.models.tokenizers import load_tokenizer

DATA = ROOT / "nbs" / "browser" / "page.json"
VIEW = "#attention[data-drawn]"
SENTENCE = ("a warm, funny and patient film about a slow train, two sisters and a dog that nobody "
            "wants, which is much better than its title says.").split()
FORWARD = """([side, count]) => {  // median milliseconds of a forward pass
    const ids = Array.from({length: count}, (_, i) => 5 + 7 * i), types = ids.map(() => 0);
    const times = [];
    for (let i = 0; i < 15; i++) {
        const started = performance.now();
        tinybert[side].model.forward({ids, types});
        times.push(performance.now() - started);
    }
    return times.slice(5).sort((a, b) => a - b)[5];
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


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--onnxruntime", type=Path, help="folder `package` of the npm package")
    given = parser.parse_args()
    before = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    with TemporaryDirectory() as temporary, chromium() as opened:
        found = {name: measure(opened, name, models, Path(temporary) / f"{name}.html")
                 for name, models in save_models(Path(temporary)).items()}
        version = opened.version
    keys = found["student"][1]
    measured = {
        "pages": [row for row, _ in found.values()],
        "key": {"median": median(keys), "most": max(keys), "keys": len(keys)},
        "scripts": sum(len(_static(name).encode()) for name in SCRIPTS),
        "hardware": f"Chromium {version.split('.')[0]}, a CPU of {os.cpu_count()} cores",
        "onnxruntime-web": before.get("onnxruntime-web")}
    if given.onnxruntime:
        about = json.loads((given.onnxruntime / "package.json").read_text(encoding="utf-8"))
        measured["onnxruntime-web"] = {"version": about["version"], "wasm": min(
            path.stat().st_size for path in (given.onnxruntime / "dist").glob("*.wasm"))}
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(DATA.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
