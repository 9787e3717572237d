"""The first cell of the walkthroughs installs the package where it is missing, as on Colab."""

import json
import os
import subprocess
import sys
import sysconfig

import pytest

from conftest import ROOT, cells_of
from sources import settings

WALKTHROUGHS = sorted((ROOT / "nbs" / "walkthroughs").glob("0[1-9]_*.ipynb"))
PROGRAM = """\
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for source in json.loads(sys.argv[1]):
    result = shell.run_cell(source)
    result.raise_error()
import tinybert_nb
print("installed in", tinybert_nb.__file__)
"""


def first_cells(path, count=1):
    """The first code cells of a notebook."""
    return [cell["source"] for cell in cells_of(path)][:count]


def test_every_walkthrough_begins_with_the_same_cell():
    cells = {source for path in WALKTHROUGHS for source in first_cells(path)}
    assert len(WALKTHROUGHS) >= 8 and len(cells) == 1
    assert f"git clone -q {settings()['git_url']}\n" in cells.pop()


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory):
    """A virtual environment that sees all packages but this one."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          check=True, capture_output=True, text=True).stdout.strip()
    with open(f"{site}/others.pth", "w", encoding="utf-8") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_cell_installs_the_package_in_a_clean_environment(clean_python, tmp_path):
    install, imports = first_cells(WALKTHROUGHS[0], 2)
    install = install.replace("https://example.org/tinybert_nb", f"{ROOT} tinybert_nb")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                    "TINYBERT_NB_RUNS": str(tmp_path / "runs")}
    missing = [clean_python, "-c", "import tinybert_nb"]
    assert subprocess.run(missing, env=environment, cwd=tmp_path, capture_output=True).returncode
    command = [clean_python, "-c", PROGRAM, json.dumps([install, imports])]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"installed in {clean_python.parent.parent}" in result.stdout
    again = [clean_python, "-c", PROGRAM, json.dumps([first_cells(WALKTHROUGHS[0])[0]])]
    result = subprocess.run(again, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "installed in" in result.stdout  # and example.org is not asked
