"""A million rows fit into little memory, and processes that encode at once do no harm.

Run as a program this file is the process that is measured: `test_large_data.py large ROWS FOLDER`,
or one of several that encode at the same moment: `test_large_data.py once FILE FOLDER`.
"""

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


# The measured process ---------------------------------------------------------------------------


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


def large(count: int, folder: Path) -> dict:
    """Check, encode and load so many rows; what that took."""
    watch, started = Watch(), time.time()
    watch.start()
    write_rows(folder / "large.txt", count)
    rows, tokenizer = encoded(folder / "large.txt", folder / "cache")
    encoded_after = time.time() - started

    from tinybert_nb.data.batches import make_loader

    loader, seen = make_loader(rows, tokenizer, seed=0, tokens=1024, multiple_of=8), 0
    for epoch, batches in ((0, 2000), (1, 200)):
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


def once(path: Path, cache: Path) -> dict:
    """Say that all is imported, wait for the start, encode."""
    for name in ("datasets", "transformers", "tinybert_nb.data.examples"):
        import_module(name)
    print("ready", flush=True)
    sys.stdin.readline()
    rows, _ = encoded(path, cache)
    return {"rows": len(rows), "sum": sum(map(sum, rows["input_ids"]))}


# The tests --------------------------------------------------------------------------------------


def start(*words, program=__file__) -> subprocess.Popen:
    """A file of tests as a program, without a hub, in a home folder of its own."""
    home = Path(words[-1]).parent / "home"
    home.mkdir(exist_ok=True)
    own = ("HF_", "XDG_CACHE_HOME")  # would name another place for caches
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment.update(HOME=str(home), HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
    if not environment.get("TINYBERT_NB_DATA"):
        environment["TINYBERT_NB_DATA"] = str(Path(__file__).resolve().parent.parent / "data")
    command = [sys.executable, program, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def go(process: subprocess.Popen):
    """Let a process that has imported all begin."""
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen) -> dict:
    """What a process printed last; nothing was left in its home folder."""
    printed, _ = process.communicate("\n", timeout=600)
    assert process.returncode == 0, printed
    assert not list((Path(process.args[-1]).parent / "home").iterdir())
    return json.loads(printed.splitlines()[-1])


def answer_of_three_at_once(*words, program=__file__) -> dict:
    """What three processes answer, all the same, that begin at the same moment."""
    processes = [start(*words, program=program) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    answers = [answer(process) for process in processes]
    assert answers == [answers[0]] * 3
    return answers[0]


def test_a_million_rows_take_little_more_memory_than_ten_thousand(tmp_path):
    measured = {}
    for count in (10_000, 1_000_000):
        folder = tmp_path / str(count) / "data"
        folder.mkdir(parents=True)
        measured[count] = answer(start("large", count, folder))
        print({name: round(value, 1) for name, value in measured[count].items()})
    small, full = measured.values()
    assert full["rows"] == 1_000_000 and full["batches"] > 2200 and full["seen"] > 200_000
    assert full["peak"] < 1024
    # Its own memory grows by the order of the rows alone: their lengths and numbers. A list of
    # Python rows would take more than a gibibyte.
    assert full["own_peak"] - small["own_peak"] < 48
    # The mapped file, 50 bytes a row here, comes on top as far as its pages were touched and the
    # kernel has not taken them back.
    assert full["peak"] - small["peak"] < 48 + full["on_disk"]


def test_processes_that_encode_at_once_get_the_same_rows(tmp_path):
    path, cache = tmp_path / "rows.txt", tmp_path / "cache"
    write_rows(path, 3000)
    assert answer_of_three_at_once("once", path, cache)["rows"] == 3000
    (folder,) = cache.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["about.json", "rows.arrow"]


def test_a_process_killed_while_it_encodes_leaves_nothing_that_passes_for_rows(tmp_path):
    path, cache = tmp_path / "rows.txt", tmp_path / "cache"
    write_rows(path, 20_000)
    process = start("once", path, cache)
    go(process)
    while not any(file.stat().st_size for file in cache.glob(".unfinished-*/made/rows.arrow")):
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [folder.name for folder in cache.iterdir() if folder.name[0] != "."] == []
    assert answer(start("once", path, cache))["rows"] == 20_000


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    result = large(int(first), Path(second)) if what == "large" else once(Path(first), Path(second))
    print(json.dumps(result))
