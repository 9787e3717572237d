"""`tinybert-nb` in a process of its own, forked from one that has torch and transformers imported.

A command imports for five seconds before it begins, and the tests run some two hundred commands. A
fork has those imports, and nothing else, from the process that it was forked from: that process
only imports. Which modules a fresh command imports, and how it starts, is tested with fresh
processes.
"""

from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
import atexit
import os
import subprocess
import sys

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tinybert_nb.cli.commands", "tinybert_nb.cli.training_commands", "tinybert_nb.recipes.task_distillation",
     "tinybert_nb.recipes.general_distillation", "tinybert_nb.evaluation.scoreboard", "tyro"])


def _command(words: list[str], folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    """What the forked process does."""
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tinybert-nb", *words]
    from tinybert_nb.cli.commands import main

    try:
        code = main()
    finally:
        atexit._run_exitfuncs()
    sys.exit(code)


def run_forked(words: list[str], folder: Path, environment: dict[str, str], timeout: float) -> subprocess.CompletedProcess:
    """Run the command; what it says is captured as text."""
    with TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        for path in outputs:
            path.touch()
        process = CONTEXT.Process(target=_command, args=(words, str(folder), environment, [*map(str, outputs)]))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, *(path.read_bytes() for path in outputs))
        return subprocess.CompletedProcess(
            ["tinybert-nb", *words], process.exitcode, *(path.read_text(encoding="utf-8") for path in outputs))
