"""The outputs that the notebooks keep: fresh, small, complete, and without traces of a machine."""

import json
import re

import nbformat
import pytest

from conftest import ROOT
from render_notebooks import MOST_BYTES, is_stale
from run_notebooks import all_notebooks

NOTEBOOKS = all_notebooks()
NAMES = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
EXERCISES = [path for path in NOTEBOOKS if path.parent.name == "exercises"]
PNG_OF_ONE_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def code_cells(path):
    """The code cells of a notebook, with their outputs."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def produces_something(source: str) -> bool:
    """Whether a cell ends with an expression or prints."""
    import ast

    tree = ast.parse(re.sub(r"^\s*[!%].*$", "print()", source, flags=re.MULTILINE))
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    return shown or "print(" in source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_are_of_the_current_sources(path):
    assert not is_stale(path), f"stale outputs: make render NB={path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_are_clean(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= MOST_BYTES
    for cell in code_cells(path):
        for output in cell.outputs:
            said = json.dumps(output)
            assert output.output_type != "error" and output.get("name") != "stderr", cell.id
            assert "widget-view" not in said and str(ROOT) not in said, cell.id
            assert not re.search(r"/tmp/tmp|/home/|/root/|it/s\]|Warning:", said), cell.id


def test_outputs_fit_into_twelve_mebibytes():
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= 12 * 2**20
