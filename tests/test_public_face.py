"""`import tinybert_nb`: its names, loaded when they are asked for, and what the package ships."""

import json
import shutil
import sys
from pkgutil import resolve_name

import pytest

import tinybert_nb
from conftest import ROOT, run_command, succeeded

HEAVY = ("torch", "transformers", "datasets", "tqdm", "tyro", "matplotlib")
PUBLIC = tinybert_nb._PUBLIC


def in_fresh_process(program: str):
    """What a program prints as JSON on its last line, run in a Python of its own."""
    result = succeeded(run_command(sys.executable, "-c", "import json, sys\n" + program))
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_what_its_module_defines(name):
    value = getattr(tinybert_nb, name)
    assert value is resolve_name(PUBLIC[name])
    assert value.__doc__ and value.__module__ == PUBLIC[name].partition(":")[0]


def test_importing_the_package_loads_nothing_heavy_and_completion_knows_its_names():
    program = (
        "import tinybert_nb; names = dir(tinybert_nb)\n"
        f"print(json.dumps([names, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    names, loaded = in_fresh_process(program)
    assert loaded == [] and {*PUBLIC, "__version__"} <= {*names}


def test_public_name_can_be_imported_and_modules_stay_reachable():
    program = (
        "from tinybert_nb import DistillSettings, TaskForm\n"
        "import tinybert_nb.data.formats\n"
        "print(json.dumps([DistillSettings().augment, tinybert_nb.data.task_form.TaskForm is TaskForm]))"
    )
    assert in_fresh_process(program) == [False, True]


def test_kinds_of_tasks_and_files_are_read_without_torch():
    """A deployed model is used where neither torch nor transformers is installed."""
    program = (
        "import tinybert_nb.data.examples, tinybert_nb.data.labels\n"
        "from tinybert_nb.data.task_form import known_kinds\n"
        "names = [*known_kinds()]\n"
        "print(json.dumps([names, [name for name in ('torch', 'transformers', 'sklearn', 'scipy')"
        " if name in sys.modules]]))"
    )
    names, loaded = in_fresh_process(program)
    assert len(names) == 5 and loaded == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tinybert_nb' has no attribute 'no_such_name'"):
        tinybert_nb.no_such_name  # noqa: B018


def test_export_changes_nothing_of_the_public_face_but_the_version(tmp_path):
    """nbdev owns the line with the version, and leaves the rest as it is written."""
    source = (ROOT / "tinybert_nb/__init__.py").read_text(encoding="utf-8")
    (tmp_path / "tinybert_nb").mkdir()
    (tmp_path / "tinybert_nb/__init__.py").write_text(source, encoding="utf-8")
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    changed = settings.replace(f"version = {tinybert_nb.__version__}", "version = 9.9.9")
    assert changed != settings
    (tmp_path / "settings.ini").write_text(changed, encoding="utf-8")
    (tmp_path / "nbs").mkdir()
    shutil.copy(ROOT / "nbs/00_files/00_terminal.ipynb", tmp_path / "nbs/00_terminal.ipynb")
    program = "from nbdev.doclinks import nbdev_export\nnbdev_export()"
    succeeded(run_command(sys.executable, "-c", program, folder=tmp_path))
    exported = (tmp_path / "tinybert_nb/__init__.py").read_text(encoding="utf-8")
    assert exported == source.replace(f'"{tinybert_nb.__version__}"', '"9.9.9"')


def test_package_says_that_it_is_typed():
    assert (ROOT / "tinybert_nb/py.typed").exists()
    assert '"tinybert_nb": ["py.typed"]' in (ROOT / "setup.py").read_text(encoding="utf-8")
