"""The outputs that the notebooks keep: fresh, small, visible, and without traces of a machine."""

import ast
import json
import re

import nbformat
from nbformat import NotebookNode
import pytest

from conftest import ROOT
from render_notebooks import (
    MOST_BYTES, RUNS, STILL, WIDGET, cleaned, is_stale, plain_text, small_png, sources_hash, visible)
from sources import EXPORTED, UNSEEN, all_notebooks, directives

NOTEBOOKS = all_notebooks()
NAMES = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
WALKTHROUGHS = [path for path in NOTEBOOKS if path.parent.name == "walkthroughs"]


def shown_cells(path):
    """The code cells of a notebook that a reader sees, other than exported ones."""
    return [cell for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code" and cell.source.strip()
            and not (EXPORTED | UNSEEN) & directives(cell.source)[0]]


def ends_with_a_result(source: str) -> bool:
    """Whether the last line of a cell is an expression that is displayed."""
    plain = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
    body = ast.parse(plain).body
    return bool(body) and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_are_of_the_current_sources(path):
    assert not is_stale(path), f"stale outputs: make render NB={path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_are_clean(path):
    assert path.stat().st_size <= MOST_BYTES
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            said = json.dumps(output)
            assert output.output_type != "error" and output.get("name") != "stderr", cell.id
            assert WIDGET not in said and STILL not in said, cell.id
            assert not re.search(r"/tmp/tmp|it/s\]|Warning:", said), cell.id
            assert plain_text(said) == said, cell.id


def test_all_notebooks_fit_into_twelve_mebibytes():
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= 12 * 2**20


@pytest.mark.parametrize("path", WALKTHROUGHS, ids=lambda path: path.stem)
def test_walkthroughs_show_every_result(path):
    silent = [cell.source for cell in shown_cells(path)
              if ends_with_a_result(cell.source) and not cell.outputs]
    assert silent == []


def test_most_cells_show_something():
    cells = [cell for path in NOTEBOOKS for cell in shown_cells(path)]
    assert sum(bool(cell.outputs) for cell in cells) >= 0.6 * len(cells)


# How outputs are cleaned ------------------------------------------------------------------------


def output(kind="display_data", **data):
    """An output of a cell."""
    return NotebookNode(output_type=kind, data=NotebookNode(data), metadata=NotebookNode())


def stream(text, name="stdout"):
    """A text that a cell printed."""
    return NotebookNode(output_type="stream", name=name, text=text)


def test_texts_of_one_stream_are_joined_and_widgets_left_out():
    found = visible([stream("a\n"), stream("b\n"), output(**{WIDGET: {}, "text/plain": "VBox()"}),
                     stream("c", "stderr"), output(**{"text/plain": ""})])
    assert [each.text for each in found] == ["a\nb\n", "c"]


def test_traces_of_the_machine_are_left_out():
    assert plain_text(f"{ROOT}/runs/x at {ROOT}") == "runs/x at ."
    assert plain_text(f"in {RUNS}/07_recipes_00_x.data/traces") == "in data/traces"
    assert plain_text("<a.B object at 0x7f2a1c3d4e50>") == "<a.B object at 0x0>"
    result = cleaned(output("execute_result", **{"text/plain": f"'{ROOT}/data'"}))
    assert result.data["text/plain"] == "'data'" and result.execution_count is None


def test_small_pictures_look_the_same():
    from base64 import b64decode, b64encode
    from io import BytesIO

    import numpy as np
    from PIL import Image

    pixels = np.linspace(0, 255, 120 * 160 * 3).reshape(120, 160, 3).astype("uint8")
    written = BytesIO()
    Image.fromarray(pixels).save(written, "png")
    before = b64encode(written.getvalue()).decode()
    after = np.asarray(Image.open(BytesIO(b64decode(small_png(before)))).convert("RGB"))
    assert np.abs(after.astype(int) - pixels).max() <= 24


def test_outputs_are_stale_once_code_modules_or_rows_change(tmp_path, monkeypatch):
    import render_notebooks

    (tmp_path / "nbs/tasks").mkdir(parents=True)
    rows = tmp_path / "nbs/tasks/rows.json"
    rows.write_text("1")
    module = tmp_path / "room.py"
    module.write_text("x = 1")
    monkeypatch.setattr(render_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(render_notebooks, "all_modules", lambda: {"data.room": module})
    code = 'from tinybert_nb.data.room import x\nread("rows.json")'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    before = sources_hash(notebook)
    notebook.cells.append(nbformat.v4.new_markdown_cell("prose"))
    notebook.cells[0].outputs = [stream("1")]
    assert sources_hash(notebook) == before
    for path in (rows, module):
        kept = path.read_text()
        path.write_text(kept + " ")
        assert sources_hash(notebook) != before
        path.write_text(kept)
    notebook.cells[0].source += "\nx"
    assert sources_hash(notebook) != before
