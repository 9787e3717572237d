"""Where the walkthroughs train when they are tested, so that the browser tests find what was trained."""

from pathlib import Path
from shutil import rmtree
import re
import tempfile

ROOT = Path(__file__).resolve().parent.parent
WORKPLACES = ROOT / "build" / "workplaces"


def workplace_names() -> set[str]:
    """The prefixes of the folders that the walkthroughs ask for."""
    sources = (path.read_text(encoding="utf-8")
               for path in (ROOT / "nbs" / "walkthroughs").glob("*.ipynb"))
    return {name for text in sources for name in re.findall(r'mkdtemp\(prefix=\\"([^"\\]+)', text)}


def lasting_mkdtemp(empty: bool):
    """A `mkdtemp` that gives a walkthrough its lasting folder, emptied first or as it was left."""
    plain, names = tempfile.mkdtemp, workplace_names()

    def mkdtemp(suffix=None, prefix=None, dir=None):
        if prefix not in names:
            return plain(suffix, prefix, dir)
        if empty:
            rmtree(WORKPLACES / prefix, ignore_errors=True)
        (WORKPLACES / prefix).mkdir(parents=True, exist_ok=True)
        return str(WORKPLACES / prefix)

    return mkdtemp
