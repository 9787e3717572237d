"""Run the notebooks through nbdev_test and leave proof of every cell that ran.

    .venv/bin/python scripts/run_notebooks.py        # all that have changed since they passed
    .venv/bin/python scripts/run_notebooks.py nbs/03_distillation/00_losses.ipynb     # only these

nbdev_test says only that a notebook did not fail; a notebook whose cells were all left out does not
fail either. So each notebook that runs here leaves build/executed/NAME.json: the cells that really
ran, in order, how long each took, and what went wrong. tests/test_notebooks.py compares that with
the notebook.
"""

from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr
from functools import cache
from hashlib import sha256
from importlib import import_module
from io import StringIO
from pathlib import Path
from shutil import rmtree
from unittest.mock import patch
import gc
import json
import os
import re
import signal
import sys
import time

from execnb.shell import CaptureShell
from fastcore.basics import num_cpus
import nbdev.test

from sources import ROOT, absolute_imports, all_modules, all_notebooks, modules_in
import sources

os.environ["TINYBERT_NB_PRECISION"] = "no"  # float32: what is asserted holds on any processor
PROOFS = ROOT / "build" / "executed"
RUNS = ROOT / "build" / "runs"  # where walkthroughs train when they are tested
PLAIN_TEST, PLAIN_PARALLEL = nbdev.test.test_nb, nbdev.test.parallel


def proof_path(notebook: Path) -> Path:
    """Where the proof for one notebook lies."""
    relative = notebook.resolve().relative_to(ROOT / "nbs").with_suffix(".json")
    return PROOFS / "__".join(relative.parts)


def needed_modules(notebook: Path) -> set[str]:
    """The modules that a notebook imports, directly or by way of others; its own among them."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    known = all_modules()
    found, new = set(), modules_in(code, known)
    own = re.search(r"^#\| default_exp ([\w.]+)", code, re.MULTILINE)
    new |= {own[1]} & {*known} if own else set()
    while new:
        found |= new
        new = {other for name in new for other in _imported_by(name)} - found
    return found


@cache
def _imported_by(module: str) -> set[str]:
    """The modules of this package that one of them imports."""
    known = all_modules()
    return modules_in(absolute_imports(known[module].read_text(encoding="utf-8"), module), known)


def fingerprint(notebook: Path) -> str:
    """SHA-256 over what a proof holds for: the notebook, all that it needs, and these scripts.

    That is the modules that it imports, directly or not, the scripts and styles beside them, the
    committed data, and the versions of all packages."""
    notebook = notebook.resolve()
    known = all_modules()
    modules = [known[name] for name in sorted(needed_modules(notebook))]
    beside = [path for wing in sorted({module.parent for module in modules})
              for path in sorted((wing / "static").glob("*"))]
    data = [path for path in sorted((ROOT / "data").glob("*")) if path.is_file()]
    rows = sorted((ROOT / "nbs").glob("*/*.json"))
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = json.dumps([cell["source"] for cell in cells]).encode()  # outputs change nothing
    files = [*modules, *beside, *data, *rows, ROOT / "constraints.txt", ROOT / "settings.ini",
             Path(__file__).resolve(), Path(sources.__file__)]
    contents = [code, *(path.read_bytes() for path in files)]
    return sha256(b"".join(sha256(content).digest() for content in contents)).hexdigest()


def is_proved(notebook: Path) -> bool:
    """Whether the notebook passed, and nothing that it needs has changed since."""
    path = proof_path(notebook)
    if not path.exists():
        return False
    proof = json.loads(path.read_text(encoding="utf-8"))
    return proof["passed"] and proof["fingerprint"] == fingerprint(notebook)


@contextmanager
def _recorded_cells(cells: list):
    """While this is open, each code cell that execnb runs is added to `cells`."""
    plain_cell = CaptureShell.cell

    def cell(self, cell, *arguments, **options):
        started = time.time()
        result = plain_cell(self, cell, *arguments, **options)
        if cell.cell_type == "code":
            failed = None if self.exc is None else f"{type(self.exc).__name__}: {self.exc}"
            cells.append(
                {"id": cell.id, "seconds": round(time.time() - started, 3), "failed": failed}
            )
        return result

    CaptureShell.cell = cell
    try:
        yield
    finally:
        CaptureShell.cell = plain_cell


def run_with_proof(notebook: Path, **options) -> tuple[bool, float]:
    """nbdev's `test_nb` for one notebook, with the proof written beside it."""
    cells, errors = [], StringIO()
    before = fingerprint(notebook)
    rmtree(RUNS / "walkthroughs" / notebook.stem, ignore_errors=True)
    with _recorded_cells(cells), redirect_stderr(errors), \
            patch.dict(os.environ, TINYBERT_NB_RUNS=str(RUNS)):
        passed, seconds = PLAIN_TEST(notebook, **options)
    sys.stderr.write(errors.getvalue())
    name = notebook.resolve().relative_to(ROOT).as_posix()
    print(
        f"{name}: {len(cells)} cells, {seconds:.0f} s, {'passed' if passed else 'FAILED'}",
        flush=True,
    )
    proof = {
        "notebook": name,
        "fingerprint": before,
        "passed": bool(passed),
        "seconds": round(seconds, 1),
        "cells": cells,
        "errors": errors.getvalue(),
    }
    path = proof_path(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(proof, indent=1), encoding="utf-8")
    partial.replace(path)
    return passed, seconds


def _last_first(function, notebooks, **options):
    """fastcore's `parallel`, from the last notebook on: walkthroughs and studies, which train
    longest, come last in the listing, and begun last they would be waited for."""
    return list(PLAIN_PARALLEL(function, notebooks[::-1], **options))[::-1]


def _import_once() -> None:
    """The imports that most notebooks begin with: made before the workers are forked, they are made
    once, and no collection of garbage looks through them."""
    for name in ("analysis.explorer", "evaluation.scoreboard", "recipes.task_distillation"):
        import_module(f"tinybert_nb.{name}")
    gc.collect()
    gc.freeze()


def _nbdev_test(**options) -> bool:
    """nbdev_test, each notebook through `run_with_proof`; whether all passed."""
    nbdev.test.test_nb, nbdev.test.parallel = run_with_proof, _last_first
    try:
        nbdev.test.nbdev_test.__wrapped__(**options)
        return True
    except SystemExit:
        return False
    except BrokenProcessPool:
        print("A worker was ended from outside, perhaps for want of memory.", file=sys.stderr)
        return False
    finally:
        nbdev.test.test_nb, nbdev.test.parallel = PLAIN_TEST, PLAIN_PARALLEL


def run(notebooks: list[Path] = ()) -> bool:
    """Run these notebooks; without any, all that have changed since they passed, side by side."""
    os.chdir(ROOT)
    chosen = [Path(path).resolve() for path in notebooks]
    if missing := [str(path) for path in chosen if path not in all_notebooks()]:
        sys.exit(f"not a notebook under nbs/: {', '.join(missing)}")
    if chosen:
        for path in chosen:
            proof_path(path).unlink(missing_ok=True)
        return all([_nbdev_test(path=str(path), n_workers=1) for path in chosen])
    proved = {path for path in all_notebooks() if is_proved(path)}
    left = [path for path in all_notebooks() if path not in proved]
    if proved:
        print(f"{len(proved)} notebooks passed before, and nothing that they need has changed; "
              f"{len(left)} to run", flush=True)
    for path in left:
        proof_path(path).unlink(missing_ok=True)
    if not left:
        return True
    workers = min(num_cpus() + 1, 8)  # some cells wait for a process, or for the disk
    os.environ["OMP_NUM_THREADS"] = str(max(1, num_cpus() // workers))
    _import_once()
    names = "|".join(sorted({re.escape(path.name) for path in left}))
    return _nbdev_test(path="nbs", n_workers=workers, file_re=f"^(?:{names})$")


if __name__ == "__main__":
    # IPython takes the name __main__ in each worker; the workers find this file under its own name.
    import run_notebooks

    # A shell that runs this in the background has Ctrl-C ignored, and cells and their processes
    # would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(0 if run_notebooks.run([Path(word) for word in sys.argv[1:]]) else 1)
