"""`tinybert-nb`, and other work, in processes forked from one that has torch and transformers
imported.

A command imports for five seconds before it begins, and the tests run some two hundred commands. A
fork has those imports, and nothing else, from the process that it was forked from: that process
only imports. Which modules a fresh command imports, and how it starts, is tested with fresh
processes.
"""

from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
import atexit
import gc
import os
import socket
import subprocess
import sys

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tinybert_nb.cli.commands", "tinybert_nb.cli.training_commands", "tinybert_nb.recipes.task_distillation",
     "tinybert_nb.recipes.general_distillation", "tinybert_nb.evaluation.scoreboard", "tyro", "datasets"])


def tinybert_nb_here(words: list[str], barred: Iterable[str] = ()) -> None:
    """Run the command in this process, where the barred modules are as if not installed."""
    assert not {*barred} & {*sys.modules}, "a fork cannot be without what is imported already"
    sys.modules.update(dict.fromkeys(barred))
    sys.argv = ["tinybert-nb", *words]
    from tinybert_nb.cli.commands import main

    sys.exit(main())


def _work(function: Callable, arguments: tuple, folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    """What the forked process does."""
    gc.freeze()  # what was imported before is looked through in no collection
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()


class Forked:
    """A function at work in a forked process; it is asked and told what a `Popen` is."""

    def __init__(self, function: Callable, arguments: tuple, folder: Path, environment: dict[str, str]):
        self._place = TemporaryDirectory()
        self._outputs = [Path(self._place.name, name) for name in ("stdout", "stderr")]
        for path in self._outputs:
            path.touch()
        self._process = CONTEXT.Process(
            target=_work, args=(function, arguments, str(folder), environment, [*map(str, self._outputs)]))
        self._process.start()

    def poll(self) -> int | None:
        """The exit code; None while it works."""
        return self._process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        """Send a signal if it is still at work."""
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it said."""
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self._process.name, timeout, *(path.read_bytes() for path in self._outputs))
        return tuple(path.read_text(encoding="utf-8") for path in self._outputs)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def places_of(count: int) -> list[dict[str, str]]:
    """The variables by which each of several processes knows its place, as torchrun sets them."""
    known = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [known | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
