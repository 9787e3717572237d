"""Run notebooks and keep their cleaned outputs in them, or say whose outputs are stale.

    .venv/bin/python scripts/render_notebooks.py            # notebooks whose outputs are stale
    .venv/bin/python scripts/render_notebooks.py nbs/03_distillation/00_losses.ipynb   # these
    .venv/bin/python scripts/render_notebooks.py --check    # only list the stale ones

The notebook's metadata keep a hash of what its outputs came from: its code, the modules that it
imports, and the rows that it reads. Outputs are stale when that hash is no longer the current one.

A cell whose output holds times, or anything else that changes from run to run, begins with
`#| varies`: rendered again from the same sources, it keeps the output that it has.
"""

from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
import argparse
import os
import re
import shutil
import sys
import tempfile
import time

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
import nbformat

from system_packages import chromium
from sources import ROOT, UNTESTED, all_modules, all_notebooks, directives, modules_in

RUNS = ROOT / "build" / "rendered"  # where walkthroughs train when they are rendered
DATA = Path(os.environ.get("TINYBERT_NB_DATA", ROOT / "data"))
CACHES = ("answers", "encoded", "labelled", "memory", "noisy", "splits", "traces", "unlabelled")  # of DATA: empty for each notebook
EXPORT = "import nbdev; nbdev.nbdev_export()"
VARIES = re.compile(r"^#\| *varies\b[^\n]*\n", re.MULTILINE)
WIDGET = "application/vnd.jupyter.widget-view+json"
PNG = re.compile(r"(?<=data:image/png;base64,)([A-Za-z0-9+/=]+)")
THEME = '<style class="tinybert-theme">@media screen { body[data-jp-theme-light="false"] .jp-OutputArea'
STILL = 'class="tinybert-still"'  # see analysis.html
MOST_BYTES = 500 * 1024  # of one notebook
ENVIRONMENT = {  # the same numbers, widths and orders in every run on one machine
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "COLUMNS": "100",
    "MPLCONFIGDIR": str(ROOT / "build" / "matplotlib"), "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TINYBERT_NB_PRECISION": "no"}


def code_of(notebook) -> str:
    """The source of all code cells, without the directive that says that an output varies."""
    return "\n\n".join(VARIES.sub("", cell.source) for cell in notebook.cells
                       if cell.cell_type == "code")


def sources_hash(notebook) -> str:
    """SHA-256 of the code, the modules that it imports itself, and the rows that it reads."""
    code, known = code_of(notebook), all_modules()
    rows = [path for path in sorted((ROOT / "nbs").rglob("*.json")) if f'"{path.name}"' in code]
    files = [*(known[name] for name in sorted(modules_in(code, known))), *rows]
    return sha256(b"\0".join([code.encode(), *(path.read_bytes() for path in files)])).hexdigest()


def is_stale(path: Path) -> bool:
    """Whether the outputs came from other sources than the current ones, or there are none yet."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("rendered") != sources_hash(notebook)


def plain_text(text: str) -> str:
    """A text without what belongs to one machine: folders, and addresses in memory."""
    text = re.sub(rf"{re.escape(str(RUNS))}/\w+\.data", "data", text)
    for folder, name in {RUNS: "runs", DATA: "data"}.items():
        text = text.replace(str(folder), name)
    text = text.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/[\w.-]+", "/tmp/folder", text)
    text = text.replace(str(Path.home()) + "/", "~/")
    return re.sub(r"\b0x[0-9a-f]{8,}\b", "0x0", text)


def small_png(encoded: str) -> str:
    """A PNG in base64 with at most 128 colours, where that is smaller."""
    picture = Image.open(BytesIO(b64decode(encoded))).convert("RGB")
    palette = picture.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    written = BytesIO()
    palette.save(written, "png", optimize=True)
    return min(encoded.replace("\n", ""), b64encode(written.getvalue()).decode(), key=len)


def small(kind: str, value: str) -> str:
    """The data of an output: pictures with few colours, texts without traces of the machine."""
    if kind == "image/png":
        return small_png(value)
    if not kind.startswith("text/"):
        return value
    parts = PNG.split(value)  # text, picture, text, ...
    return "".join(small_png(part) if number % 2 else plain_text(part)
                   for number, part in enumerate(parts))


def picture_of(html: str) -> str:
    """What a browser shows for some HTML: a PNG in base64."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 960, "height": 600})
        page.set_content('<body style="display: inline-block; background: white; '
                         f'font: 13px sans-serif">{html}</body>')
        return b64encode(page.locator("body").screenshot()).decode()


def cleaned(output):
    """An output without execution counts, widgets that need a kernel, and traces of the machine."""
    if output.output_type == "stream":
        return NotebookNode(output, text=plain_text(output.text))
    data = {kind: small(kind, value) for kind, value in output.data.items() if kind != WIDGET}
    if WIDGET in output.data:  # the still picture after it shows the same
        data = {}
    elif STILL in data.get("text/html", ""):  # code hosts leave out styles, and with them charts
        data = {"image/png": small_png(picture_of(data["text/html"])),
                "text/plain": "A picture of the widget: run the cell to use its controls."}
    count = {"execution_count": None} if output.output_type == "execute_result" else {}
    return NotebookNode(output, data=NotebookNode(data), metadata=NotebookNode(), **count)


def visible(outputs: list) -> list:
    """The outputs of a cell, cleaned; adjacent texts of one stream are one."""
    found = []
    for output in map(cleaned, outputs):
        if output.output_type == "stream" and found and found[-1].get("name") == output.name:
            found[-1].text += output.text
        elif output.output_type == "stream" or (
                any(output.data.values()) and THEME not in output.data.get("text/html", "")):
            found.append(output)
    return found


def own_data(path: Path) -> Path:
    """A data folder for one notebook: with all that was fetched, and with empty caches, so that a
    notebook says the same whatever ran before it."""
    folder = RUNS / f"{path.parent.name}_{path.stem}.data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in DATA.iterdir():
        if entry.name not in CACHES:
            (folder / entry.name).symlink_to(entry)
    return folder


def execute(path: Path, notebook) -> None:
    """Run the cells in a kernel of their own, in the notebook's folder, and clean the outputs."""
    skipped = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"
               and (UNTESTED & directives(cell.source)[0] or EXPORT in cell.source)}
    for cell in notebook.cells:
        cell.source = "" if cell.id in skipped else cell.source
    shutil.rmtree(RUNS / "walkthroughs" / path.stem, ignore_errors=True)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3",
                            extra_arguments=["--log-level=ERROR"],
                            resources={"metadata": {"path": str(path.parent)}})
    data = own_data(path)
    client.execute(env={**os.environ, **ENVIRONMENT, "TINYBERT_NB_RUNS": str(RUNS),
                        "TINYBERT_NB_DATA": str(data)})
    shutil.rmtree(data)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = skipped.get(cell.id, cell.source)
            cell.outputs, cell.execution_count = visible(cell.outputs), None
            cell.metadata.pop("execution", None)


def render(path: Path) -> str:
    """Run a notebook and write it with its outputs; what to say about it, "" for a failure."""
    started, notebook = time.time(), nbformat.read(path, as_version=4)
    before = {cell.id: cell.outputs for cell in notebook.cells if VARIES.search(cell.source)}
    known, now = notebook.metadata.get("rendered"), sources_hash(notebook)
    execute(path, notebook)
    for cell in notebook.cells:
        if known == now and before.get(cell.id):
            cell.outputs = before[cell.id]
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"cell {cell.id} wrote to stderr: {output.text[:1000]}")
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    notebook.metadata = NotebookNode(kernelspec=kernel, rendered=now)
    text = nbformat.writes(notebook, indent=1, ensure_ascii=False, sort_keys=True).strip() + "\n"
    changed = text != path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(f"{len(text.encode()) / 1024:.0f} KiB, more than {MOST_BYTES // 1024}")
    return f"{len(text.encode()) / 1024:.0f} KiB, {time.time() - started:.0f} s" + (
        "" if changed else ", unchanged")


def reported(path: Path) -> bool:
    """Render a notebook, and print how it went."""
    try:
        said, passed = render(path), True
    except (CellExecutionError, ValueError) as error:
        said, passed = f"FAILED: {str(error)[-3000:]}", False
    print(f"{path.relative_to(ROOT)}: {said}", flush=True)
    return passed


def main() -> int:
    """Render, or list what is stale; 1 if something failed or is stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=lambda name: Path(name).resolve())
    parser.add_argument("--check", action="store_true", help="only list stale outputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="notebooks side by side")
    given = parser.parse_args()
    if missing := [str(path) for path in given.notebooks if path not in all_notebooks()]:
        parser.error(f"not a notebook under nbs/: {', '.join(missing)}")
    chosen = given.notebooks or [path for path in all_notebooks() if is_stale(path)]
    if given.check:
        print("\n".join(str(path.relative_to(ROOT)) for path in chosen if is_stale(path)))
        return int(any(map(is_stale, chosen)))
    with ThreadPoolExecutor(given.jobs) as pool:  # the last take longest: they begin first
        return int(not all(list(pool.map(reported, chosen[::-1]))))


if __name__ == "__main__":
    sys.exit(main())
