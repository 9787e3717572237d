"""Run the notebooks through nbdev_test and leave proof of every cell that ran.

    .venv/bin/python scripts/run_notebooks.py                         # every notebook
    .venv/bin/python scripts/run_notebooks.py nbs/03_distillation/00_losses.ipynb     # only these

nbdev_test says only that a notebook did not fail; a notebook whose cells were all left out does not
fail either. So each notebook that runs here leaves build/executed/NAME.json: the cells that really
ran, in order, how long each took, and what went wrong. tests/test_notebooks.py compares that with
the notebook.
"""

from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr
from hashlib import sha256
from io import StringIO
from pathlib import Path
from shutil import rmtree
from unittest.mock import patch
import json
import os
import signal
import sys
import time

from execnb.shell import CaptureShell
from fastcore.basics import num_cpus
import nbdev.test

ROOT = Path(__file__).resolve().parent.parent
PROOFS = ROOT / "build" / "executed"
RUNS = ROOT / "build" / "runs"  # where walkthroughs train when they are tested
PLAIN_TEST = nbdev.test.test_nb


def all_notebooks() -> list[Path]:
    """Every notebook under nbs/, whatever its name: nbdev's own rules leave some out."""
    found = (ROOT / "nbs").rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def proof_path(notebook: Path) -> Path:
    """Where the proof for one notebook lies."""
    relative = notebook.resolve().relative_to(ROOT / "nbs").with_suffix(".json")
    return PROOFS / "__".join(relative.parts)


def fingerprint(notebook: Path) -> str:
    """SHA-256 over the notebook, every module and this script: what a proof holds for."""
    files = [
        notebook.resolve(),
        *sorted((ROOT / "tinybert_nb").rglob("*.py")),
        Path(__file__).resolve(),
    ]
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()


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


def _nbdev_test(**options) -> bool:
    """nbdev_test, each notebook through `run_with_proof`; whether all passed."""
    nbdev.test.test_nb = run_with_proof
    try:
        nbdev.test.nbdev_test.__wrapped__(**options)
        return True
    except SystemExit:
        return False
    except BrokenProcessPool:
        print("A worker was ended from outside, perhaps for want of memory.", file=sys.stderr)
        return False
    finally:
        nbdev.test.test_nb = PLAIN_TEST


def run(notebooks: list[Path] = ()) -> bool:
    """Run these notebooks, or all side by side, each with its share of the cores."""
    os.chdir(ROOT)
    chosen = [Path(path).resolve() for path in notebooks]
    for path in chosen or all_notebooks():
        proof_path(path).unlink(missing_ok=True)
    if chosen:
        return all([_nbdev_test(path=str(path), n_workers=1) for path in chosen])
    workers = max(1, min(num_cpus(), 8))
    os.environ["OMP_NUM_THREADS"] = str(max(1, num_cpus() // workers))
    return _nbdev_test(path="nbs", n_workers=workers)


if __name__ == "__main__":
    # IPython takes the name __main__ in each worker; the workers find this file under its own name.
    import run_notebooks

    # A shell that runs this in the background has Ctrl-C ignored, and cells and their processes
    # would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(0 if run_notebooks.run([Path(word) for word in sys.argv[1:]]) else 1)
