"""A corpus takes the same memory whatever its size; killed and crowded encodings do no harm.

Run as a program this file is the process that is measured, for any size, by hand too:
`python tests/test_corpus.py measure MEGABYTES FOLDER`, with an empty or absent FOLDER for the text
and its token numbers; or one of several that encode at the same moment: `once FILE FOLDER`.
"""

from importlib import import_module
from pathlib import Path
import json
import random
import signal
import sys
import time

import pytest

from test_large_data import Watch, answer, answer_of_three_at_once, go, memory, start

WORDS = """the of and to in a river stone winter people town which was were had been during before
after under between they it several early later known called made found small large old new music
north south water house church school century government history language family""".split()


def write_text(path: Path, megabytes: float):
    """Documents of nine sentences of common words, drawn from five thousand sentences."""
    chance, written = random.Random(0), 0
    lines = [" ".join(chance.choices(WORDS, k=chance.randint(4, 30))) + ".\n" for _ in range(5000)]
    with open(path, "w", encoding="ascii") as file:
        while written < megabytes * 1e6:
            begin = chance.randrange(len(lines) - 9)
            written += file.write("".join(lines[begin : begin + 9]) + "\n")


# The measured process ---------------------------------------------------------------------------


def tokenizer():
    """The packaged teacher's."""
    from transformers import AutoTokenizer

    from tinybert_nb.data.catalogue import DEFAULT_TEACHER
    from tinybert_nb.data.download import teacher_source

    return AutoTokenizer.from_pretrained(teacher_source(DEFAULT_TEACHER))


def measure(megabytes: float, folder: Path) -> dict:
    """Encode so much text and go through an epoch of it, joined and apart; what that took."""
    from tinybert_nb.data.encoded_corpus import encode_corpus
    from tinybert_nb.data.packing import PackedBatches

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "text.txt", megabytes)
    watch, started = Watch(), time.perf_counter()
    watch.start()
    corpus = encode_corpus(folder / "text.txt", tokenizer(), cache=folder / "cache")
    told = {"text": (folder / "text.txt").stat().st_size, "tokens": corpus.tokens}
    told["encoding_seconds"] = time.perf_counter() - started
    for documents in ("joined", "apart"):
        started, given = time.process_time(), 0
        batches = PackedBatches(corpus, tokenizer(), documents=documents, short_fraction=0.1)
        for batch in batches:
            given += int(batch["attention_mask"].sum()) - 2 * len(batch["row"])
        told[documents] = {"given": given, "tokens": batches.tokens}
        told[documents]["tokens_per_second"] = given / (time.process_time() - started)
    watch.done.set()
    return told | {"own_peak": watch.peak, "peak": memory("VmHWM")}


def once(path: Path, cache: Path) -> dict:
    """Say that all is imported, wait for the start, encode."""
    for name in ("transformers", "tinybert_nb.data.corpus"):
        import_module(name)
    print("ready", flush=True)
    sys.stdin.readline()
    from tinybert_nb.data.encoded_corpus import encode_corpus

    corpus = encode_corpus(path, tokenizer(), cache=cache)
    return {"tokens": corpus.tokens, "sum": int(corpus.read(0, corpus.places).sum())}


# The tests --------------------------------------------------------------------------------------


def run(*words):
    """This file as a program."""
    return start(*words, program=__file__)


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    measured = []
    for megabytes in (10, 50):
        folder = tmp_path / str(megabytes) / "data"
        folder.parent.mkdir()
        measured.append(answer(run("measure", megabytes, folder)))
        print(measured[-1])
    small, large = measured
    assert large["tokens"] > 4 * small["tokens"]
    for told in measured:
        assert told["joined"]["tokens"] == told["apart"]["tokens"] == told["tokens"]
        assert told["apart"]["given"] == told["tokens"] < told["joined"]["given"]  # separators
    # What the kernel counts as the process's own, and with all that is mapped.
    assert large["own_peak"] < 1.05 * small["own_peak"]
    assert large["peak"] < 1.05 * small["peak"]


def test_processes_that_encode_at_once_write_one_corpus(tmp_path):
    path, cache = tmp_path / "text.txt", tmp_path / "cache"
    write_text(path, 1)
    told = answer_of_three_at_once("once", path, cache, program=__file__)
    assert told["tokens"] > 100_000
    (folder,) = [entry for entry in cache.iterdir() if entry.is_dir()]
    assert sorted(file.name for file in folder.iterdir()) == ["about.json", "ends.bin", "tokens.bin"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_encoding_leaves_nothing_that_passes_for_a_corpus(tmp_path, number):
    path, cache = tmp_path / "text.txt", tmp_path / "cache"
    write_text(path, 8)
    process = run("once", path, cache)
    go(process)
    while not any(file.stat().st_size for file in cache.glob(".*making*/made/tokens.bin")):
        assert process.poll() is None, "the process ended before it could be stopped"
        time.sleep(0.005)
    process.send_signal(number)
    process.wait()
    left = [entry.name for entry in cache.iterdir() if entry.is_dir()]
    assert all(".making" in name for name in left) and bool(left) == (number == signal.SIGKILL)
    assert answer(run("once", path, cache))["tokens"] > 1_000_000
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 1  # the rest was removed


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    if what == "measure":
        result = measure(float(first), Path(second))
    else:
        result = once(Path(first), Path(second))
    print(json.dumps(result, indent=1 if sys.stdout.isatty() else None))
