"""A large file fits into little memory, and processes that encode at once do no harm.

Run as a program this file is the process whose forks are measured, or encode at the same moment; a
fork has the imports, and nothing else, from it.
"""

from contextlib import closing
from importlib import import_module
from itertools import islice
from pathlib import Path
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tinybert_nb.models.loading import load_classifier, save_checkpoint
from tinybert_nb.models.tokenizers import load_tokenizer

MIB = 2**20
LABELS = ["negative", "positive"]
WORDS = "a warm and funny film with very good music but no story at all".split()


def write_rows(path: Path, count: int):
    """A task file of short texts, line by line."""
    with open(path, "w", encoding="utf-8") as file:
        for row in range(count):
            words = (WORDS * 2)[row % 13 : row % 13 + 1 + row // 13 % 5]
            file.write(f"{' '.join(words)} {row % 1000}\t{LABELS[row % 2]}\n")


def encoded(path: Path, cache: Path):
    """A file's rows, with the packaged teacher's tokenizer, which comes along."""
    from transformers import AutoTokenizer

    from tinybert_nb.data.catalogue import DEFAULT_TEACHER
    from tinybert_nb.data.download import teacher_source
    from tinybert_nb.data.encoding import encode_file
    from tinybert_nb.data.labels import scan_labels

    tokenizer = AutoTokenizer.from_pretrained(teacher_source(DEFAULT_TEACHER))
    return encode_file(path, tokenizer, scan_labels(path), cache=cache), tokenizer


# The measured processes --------------------------------------------------------------------------


def memory(name: str) -> float:
    """A line of the kernel's account of this process, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024


class Watch(threading.Thread):
    """The peak of the memory that is the process's own, looked at every 20 milliseconds.

    Pages of a mapped file are not its own: the kernel may take them back at any moment. For the
    two together (VmHWM) the kernel keeps the peak itself.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.done = 0.0, threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.peak = max(self.peak, memory("RssAnon"))


def large(count: int, place: str) -> dict:
    """Check, encode and load so many rows; what that took."""
    folder, watch, started = Path(place), Watch(), time.time()
    watch.start()
    write_rows(folder / "large.txt", count)
    rows, tokenizer = encoded(folder / "large.txt", folder / "cache")
    encoded_after = time.time() - started

    from tinybert_nb.data.batches import make_loader

    loader, seen = make_loader(rows, tokenizer, seed=0, tokens=1024, multiple_of=8), 0
    for epoch, batches in ((0, 500), (1, 50)):
        loader.batch_sampler.set_epoch(epoch)
        seen += sum(len(batch["row"]) for batch in islice(loader, batches))
    watch.done.set()
    return {
        "rows": len(rows),
        "batches": len(loader),
        "seen": seen,
        "on_disk": Path(rows.cache_files[0]["filename"]).stat().st_size / MIB,
        "own_peak": watch.peak,
        "peak": memory("VmHWM"),
        "encoded_after": encoded_after,
        "seconds": time.time() - started,
    }


def traced(count: int, teacher: str, place: str) -> dict:
    """Stage one of two epochs over so many rows, with stored traces; what that took."""
    from tinybert_nb.data.splits import TaskFiles
    from tinybert_nb.recipes.stage_one import stage_one
    from tinybert_nb.training.settings import StageOneSettings

    folder, watch = Path(place), Watch()
    os.environ["TINYBERT_NB_DATA"] = str(folder)  # of this fork: its traces are stored here
    write_rows(folder / "train.txt", count)
    write_rows(folder / "eval.txt", 200)
    settings = StageOneSettings(epochs=2, batch_size=64, max_length=32, any_teacher=True,
                                trace_cache="float16", precision="no", history_every=count)
    watch.start()
    stage_one(TaskFiles(folder / "train.txt", folder / "eval.txt"), teacher, "2l-24-12h", folder / "run", settings)
    watch.done.set()
    files = [*folder.glob("traces/*/*")]
    return {"on_disk": sum(file.stat().st_size for file in files) / MIB, "own_peak": watch.peak}


def once(path: str, cache: str) -> dict:
    """Encode; how many rows, and which."""
    rows, _ = encoded(Path(path), Path(cache))
    return {"rows": len(rows), "sum": sum(map(sum, rows["input_ids"]))}


def serve():
    """Import all; then for each line, [module.function, times, *words], fork so many processes.

    Their numbers are told first, then what each was told, then their exit codes.
    """
    for name in ("datasets", "transformers.models.auto.tokenization_auto", "tinybert_nb.data.batches",
                 "tinybert_nb.data.encoding", "tinybert_nb.data.labels", "tinybert_nb.data.download",
                 "tinybert_nb.data.encoded_corpus", "tinybert_nb.data.packing", "tinybert_nb.recipes.stage_one"):
        import_module(name)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        name, times, *words = json.loads(line)
        module, function = name.split(".")
        call, (begin, all_there) = getattr(import_module(module), function), os.pipe()
        children = []
        for _ in range(times):
            children.append(os.fork())
            if not children[-1]:
                os.close(all_there)
                os.read(begin, 1)  # comes back when the other end is closed everywhere
                os.write(1, f"{json.dumps(call(*words))}\n".encode())
                os._exit(0)
        os.write(1, f"{json.dumps(children)}\n".encode())
        os.close(begin)
        os.close(all_there)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        os.write(1, f"{json.dumps(ended)}\n".encode())


# The tests --------------------------------------------------------------------------------------


class Forks:
    """This file as a program, without a hub, in a home folder of its own; and what its forks tell."""

    def __init__(self, folder: Path):
        self.home = folder / "home"
        self.home.mkdir()
        own = ("HF_", "XDG_CACHE_HOME")  # would name another place for caches
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        environment.update(HOME=str(self.home), HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
        if not environment.get("TINYBERT_NB_DATA"):
            environment["TINYBERT_NB_DATA"] = str(Path(__file__).resolve().parent.parent / "data")
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=pipe, stdout=pipe, text=True)
        assert self._line() == "ready"

    def _line(self) -> str:
        return self.program.stdout.readline().rstrip("\n")

    def start(self, name: str, *words, times: int = 1) -> list[int]:
        """Have so many processes call `module.function` with these words; their numbers."""
        self.program.stdin.write(json.dumps([name, times, *words], default=str) + "\n")
        self.program.stdin.flush()
        return json.loads(self._line())

    def end(self) -> list[int]:
        """Wait until those processes have ended; their exit codes, below 0 by a signal."""
        return json.loads(self._line())

    def answers(self, name: str, *words, times: int = 1) -> list[dict]:
        """What so many processes told; nothing was left in their home folder."""
        self.start(name, *words, times=times)
        told = [json.loads(self._line()) for _ in range(times)]
        assert self.end() == [0] * times
        assert not list(self.home.iterdir())
        return told

    def close(self):
        self.program.stdin.close()
        self.program.wait(60)
        self.program.stdout.close()


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Processes with all imports made."""
    with closing(Forks(tmp_path_factory.mktemp("forks"))) as started:
        yield started


def stop_while_written(forks: Forks, name: str, path: Path, cache: Path, unfinished: str, number: int) -> int:
    """Send a process a signal as soon as its unfinished file has something in it; its exit code."""
    (child,) = forks.start(name, path, cache)
    while not any(file.stat().st_size for file in cache.glob(unfinished)):
        assert Path(f"/proc/{child}").exists(), "the process ended before it could be stopped"
        time.sleep(0.005)
    os.kill(child, number)
    return forks.end()[0]


def test_many_rows_take_little_more_memory_than_ten_thousand(tmp_path, forks):
    measured = {}
    for count in (10_000, 100_000):
        folder = tmp_path / str(count) / "data"
        folder.mkdir(parents=True)
        (measured[count],) = forks.answers("test_large_data.large", count, folder)
        print({name: round(value, 1) for name, value in measured[count].items()})
    small, full = measured.values()
    assert full["rows"] == 100_000 and full["batches"] > 800 and full["seen"] > 50_000
    # Its own memory grows by the order of the rows alone: their lengths and numbers. A list of
    # Python rows would take some 50 MiB.
    assert full["own_peak"] - small["own_peak"] < 5
    # The mapped file, 50 bytes a row here, comes on top as far as its pages were touched and the
    # kernel has not taken them back.
    assert full["peak"] - small["peak"] < 5 + full["on_disk"]
    # At this pace a million rows fit into a gibibyte.
    assert small["peak"] + (full["peak"] - small["peak"]) * 99 / 9 < 1024


def test_stored_traces_stay_on_the_disk(tmp_path, forks, small_teacher):
    tokenizer = load_tokenizer(small_teacher)
    teacher = load_classifier(small_teacher, LABELS, fresh_head=True)
    save_checkpoint(tmp_path / "teacher", teacher, tokenizer)
    measured = []
    for count in (800, 8000):
        (tmp_path / str(count)).mkdir()
        measured += forks.answers("test_large_data.traced", count, tmp_path / "teacher", tmp_path / str(count))
    print(measured)
    small, full = measured
    assert full["on_disk"] - small["on_disk"] > 35
    assert full["own_peak"] - small["own_peak"] < 10


def test_processes_that_encode_at_once_get_the_same_rows(tmp_path, forks):
    path, cache = tmp_path / "rows.txt", tmp_path / "cache"
    write_rows(path, 3000)
    told = forks.answers("test_large_data.once", path, cache, times=3)
    assert told == [told[0]] * 3 and told[0]["rows"] == 3000
    (folder,) = cache.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["about.json", "rows.arrow"]


def test_a_process_killed_while_it_encodes_leaves_nothing_that_passes_for_rows(tmp_path, forks):
    path, cache = tmp_path / "rows.txt", tmp_path / "cache"
    write_rows(path, 10_000)
    unfinished = ".unfinished-*/made/rows.arrow"
    ended = stop_while_written(forks, "test_large_data.once", path, cache, unfinished, signal.SIGKILL)
    assert ended == -signal.SIGKILL
    assert [folder.name for folder in cache.iterdir() if folder.name[0] != "."] == []
    assert forks.answers("test_large_data.once", path, cache)[0]["rows"] == 10_000


if __name__ == "__main__":
    serve()
