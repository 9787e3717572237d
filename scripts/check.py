"""Check what changed since the last commit: in sync, lint, types, form, the notebooks themselves.

    .venv/bin/python scripts/check.py                                    # changed notebooks
    .venv/bin/python scripts/check.py nbs/03_distillation/00_losses.ipynb

What it does not do: run the other notebooks that use a changed module, and tests/ as a whole. That
is `make test`, which runs each notebook again whose modules have changed.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import os
import subprocess
import sys
import time

from sources import ROOT

BIN = Path(sys.executable).parent


def changed_notebooks() -> list[str]:
    """Notebooks that differ from the last commit, or are new."""
    listed = subprocess.run(["git", "status", "--porcelain", "-z", "--untracked-files=all", "nbs"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [line[3:] for line in listed.split("\0") if line[2:3] == " "]
    return sorted(name for name in names if name.endswith(".ipynb") and (ROOT / name).exists())


def steps(notebooks: list[str]) -> dict[str, list[str]]:
    """What is checked -> the command."""
    left_out = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "typeguard", "anyio")]
    about_form = [f"tests/test_{name}.py" for name in ("notebooks", "types", "words", "public_face")]
    found = {
        "modules, README and ARCHITECTURE in sync; clean notebooks; imports, links and form; lint, "
        "types, words and the public face": [
            str(BIN / "python"), "-m", "pytest", "-q", *left_out, "-n", "2", "--dist", "worksteal",
            "-k", "not executed", *about_form],
    }
    if notebooks:
        found[" ".join(notebooks)] = [
            str(BIN / "python"), "scripts/run_notebooks.py", *notebooks]
    return found


def run_step(command: list[str], environment: dict[str, str]) -> tuple[int, str, float]:
    """The exit status of a command, what it said, and its seconds."""
    started = time.time()
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return result.returncode, result.stdout[-6000:] + result.stderr[-6000:], time.time() - started


def main() -> int:
    """Run all steps, tell which failed; 0 if none did."""
    notebooks = sys.argv[1:] or changed_notebooks()
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TQDM_DISABLE="1",
                       TOKENIZERS_PARALLELISM="false")
    failed = 0
    with ThreadPoolExecutor() as pool:  # side by side
        found = {name: pool.submit(run_step, command, environment)
                 for name, command in steps(notebooks).items()}
        for name, result in found.items():
            status, said, seconds = result.result()
            print(f"{'FAILED' if status else 'passed'} in {seconds:.0f} s: {name}", flush=True)
            if status:
                failed = 1
                print(said, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
