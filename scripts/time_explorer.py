"""Time the attention explorer in a real JupyterLab and Chromium, from a control to the drawn picture.

    .venv/bin/python scripts/time_explorer.py
    .venv/bin/python scripts/time_explorer.py --beside ../earlier    # the same of another checkout

A teacher of six layers of 384 and a student of four, with random weights (what is drawn costs the
same), on 64 and 512 tokens: another head, layer, way of looking, token, a head opened in the overview,
merged layers and heads, whole words, the automatic scale, one more selected token with lines; another
layer map and another measure of the overview, each of which is computed for all heads. "rank
agreement" follows a layer map that was not shown before. Then a student at five checkpoints: another
checkpoint, layer or measure. Prints the median and the range, in milliseconds.
"""

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
import argparse
import json
import os

from browser import MODELS, Watched, jupyterlab, notebook
from sources import ROOT
from system_packages import chromium

VIEW = ".tinybert-attention[data-drawn]"
SHOWN = """\
from tinybert_nb.analysis.explorer import AttentionExplorer

explorer = AttentionExplorer(bert(6), bert(4), tokenizer, text="film " * {words})
explorer.view.layer, explorer.view.head, explorer.view.token = 1, 1, 0
explorer
"""
TRAINING = """\
from tinybert_nb.analysis.explorer import AttentionExplorer

students = {{f"after {{n}} updates": bert(4) for n in range(5)}}
explorer = AttentionExplorer(bert(6), students, tokenizer, text="film " * {words})
explorer.view.layer, explorer.view.head, explorer.view.token = 1, 1, 0
explorer
"""
# Move one control and wait until the picture, or for "token" the table of one row, is another. A way
# that the kernel computes is drawn when its data have arrived: then the caption's picture is named so.
MOVE = """async ([what, value]) => {
    const root = document.querySelector(".tinybert-attention[data-drawn]");
    const control = name => root.querySelector(`[data-control='${name}']`);
    const row = root.querySelector(`[data-place='${value}']`), before = root.dataset.drawn;
    const picture = root.querySelector("canvas[data-panel='student']"), label = picture.ariaLabel;
    const drawn = () => root.dataset.drawn !== before, another = () => drawn() && picture.ariaLabel !== label;
    const change = (name, event = "change") => {
        control(name).value = value;
        control(name).dispatchEvent(new Event(event));
    };
    const [layer, head] = String(value).split("/");
    const cell = root.querySelector(`[data-layer='${layer}'][data-head='${head}']`);
    const grid = root.querySelector("[role='grid']"), pairs = () => grid.tBodies[0].innerText;
    const shown = pairs(), named = grid.ariaLabel, typed = document.querySelector("input[list]");
    const measure = [() => change("measure"), () => drawn() && grid.ariaLabel !== named];
    const [act, done] = {
        map: [() => { typed.value = value; typed.dispatchEvent(new Event("change", {bubbles: true})); },
              () => drawn() && pairs() !== shown],
        measure,
        checkpoint: [() => change("checkpoint", "input"), another],
        "rank agreement": measure,
        head: [() => change("head", "input"), another],
        layer: [() => change("layer"), drawn],
        "layers merged": [() => change("layer"), drawn],
        view: [() => change("view"), another],
        merge: [() => change("merge"), another],
        words: [() => change("words"), drawn],
        scale: [() => change("scale"), drawn],
        overview: [() => cell.click(), () => cell.ariaSelected === "true"],
        token: [() => row.dispatchEvent(new PointerEvent("pointerover", {bubbles: true})),
                () => row.getAttribute("aria-selected") === "true"],
        selected: [() => row.dispatchEvent(new MouseEvent("click", {bubbles: true, shiftKey: true})),
                   () => row.getAttribute("aria-selected") === "true"],
    }[what];
    const start = performance.now();
    act();
    while (!done()) {
        if (performance.now() - start > 20000) throw new Error(`no answer to ${what}`);
        await new Promise(resolve => setTimeout(resolve, 1));
    }
    return performance.now() - start;
}"""
MAPS = ["1,2,3,4", "3,4,5,6", "1,3,4,5", "2,3,5,6", "1,2,5,6"]
MOVES = {
    "head": range(2, 12),
    "layer": [2, 3, 4, 1, 2, 3, 4, 1, 2, 3],
    "layers merged": ["0", "-1"] * 3,
    "view": ["scores", "value-weighted", "rollout", "cosine", "probabilities"] * 2,
    "merge": ["mean", "maximum", "one"] * 3,
    "overview": ["1/2", "2/3", "3/4", "4/5", "5/6", "6/7", "1/8", "2/9", "3/10"],
    "words": ["true", "false"] * 4,
    "scale": ["automatic", "fixed"] * 4,
    "token": range(3, 13),
    "selected": range(14, 24),
}


def time_moves(browser, folder: Path, words: int, training: bool = False) -> dict[str, list[float]]:
    """Milliseconds of every move, for a text of this many words; of a student at five checkpoints."""
    models, shown = MODELS.replace("hidden_size=96", "hidden_size=384"), TRAINING if training else SHOWN
    (folder / "timed.ipynb").write_text(
        json.dumps(notebook(models, shown.format(words=words))), encoding="utf-8")
    with jupyterlab(folder) as lab:
        watched = Watched(browser.new_page(viewport={"width": 1300, "height": 1100}))
        watched.open_notebook(lab, "timed.ipynb")
        watched.run_all(300)
        watched.page.wait_for_selector(VIEW, timeout=60_000)
        window = watched.page.locator(f"{VIEW} [data-control='width']")
        if window.count() and window.is_visible():
            window.select_option(str(words + 2))  # all at once
        watched.page.wait_for_timeout(2000)
        found = {}

        def time_move(what, value):
            found.setdefault(what, []).append(watched.page.evaluate(MOVE, [what, value]))
            watched.page.wait_for_timeout(100)

        if training:
            for number, layer, measure in zip((1, 2, 3, 4, 5) * 2, (2, 3, 4, 1) * 3,
                                              ("cosine", "jensen_shannon") * 5):
                time_move("checkpoint", number)
                time_move("layer", layer)
                time_move("measure", measure)
            return {f"{what} (five checkpoints)": times for what, times in found.items()}
        watched.page.evaluate(MOVE, ["map", "1,3,5,6"])  # waits for the cell's still picture
        for layer_map in MAPS:
            time_move("map", layer_map)
            time_move("rank agreement", "rank_agreement")
            for measure in ("cosine", "score_mse", "probability_kl", "jensen_shannon"):
                time_move("measure", measure)
        for what, values in MOVES.items():
            if what == "selected":
                watched.page.check(f"{VIEW} [data-control='lines']")
                watched.page.wait_for_timeout(1000)
            if what == "layers merged" and not watched.page.query_selector(f"{VIEW} option[value='-1']"):
                continue  # an earlier checkout
            for value in values:
                time_move(what, value)
        return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="time the attention explorer in a browser")
    parser.add_argument("--beside", help="another checkout of this repository, timed as well")
    checkouts = [ROOT, Path(parser.parse_args().beside or ROOT).resolve()]
    print("| tokens | checkout | another | median ms | from | to |\n|---|---|---|---|---|---|")
    with chromium() as browser:
        for words in (62, 510):
            for checkout in dict.fromkeys(checkouts):
                os.environ["PYTHONPATH"] = str(checkout)  # of JupyterLab's kernel
                for training in (False, True) if checkout == ROOT else (False,):
                    with TemporaryDirectory() as folder:
                        found = time_moves(browser, Path(folder), words, training)
                    for what, times in found.items():
                        print(f"| {words + 2} | {checkout.name} | {what} | {median(times):.0f} | "
                              f"{min(times):.0f} | {max(times):.0f} |", flush=True)


if __name__ == "__main__":
    main()
