"""A corpus takes the same memory whatever its size; killed and crowded encodings do no harm.

Run as a program this file measures any size by hand: `python tests/test_corpus.py MEGABYTES FOLDER`,
with an empty or absent FOLDER for the text and its token numbers.
"""

from contextlib import closing
from pathlib import Path
import json
import random
import signal
import sys
import time

import pytest

from test_large_data import MIB, Forks, Watch, memory, stop_while_written

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


# The measured processes --------------------------------------------------------------------------


def tokenizer():
    """The packaged teacher's."""
    from transformers import AutoTokenizer

    from tinybert_nb.data.catalogue import DEFAULT_TEACHER
    from tinybert_nb.data.download import teacher_source

    return AutoTokenizer.from_pretrained(teacher_source(DEFAULT_TEACHER))


def measure(megabytes: float, place: str) -> dict:
    """Encode so much text and go through an epoch of it, joined and apart; what that took."""
    from tinybert_nb.data.encoded_corpus import encode_corpus
    from tinybert_nb.data.packing import PackedBatches

    folder = Path(place)
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


def once(path: str, cache: str) -> dict:
    """Encode; how many tokens, and which."""
    from tinybert_nb.data.encoded_corpus import encode_corpus

    corpus = encode_corpus(Path(path), tokenizer(), cache=Path(cache))
    return {"tokens": corpus.tokens, "sum": int(corpus.read(0, corpus.places).sum())}


# The tests --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Processes with all imports made."""
    with closing(Forks(tmp_path_factory.mktemp("forks"))) as started:
        yield started


def test_memory_does_not_grow_with_the_corpus(tmp_path, forks):
    measured = []
    for megabytes in (6, 36):
        measured += forks.answers("test_corpus.measure", megabytes, tmp_path / str(megabytes))
        print(measured[-1])
    small, large = measured
    assert large["tokens"] > 5.5 * small["tokens"]
    for told in measured:
        assert told["joined"]["tokens"] == told["apart"]["tokens"] == told["tokens"]
        assert told["apart"]["given"] == told["tokens"] < told["joined"]["given"]  # separators
    # What the kernel counts as the process's own, and with all that is mapped: less than half of
    # what the text alone would add. The same text takes a few MiB more or less each time.
    added = (large["text"] - small["text"]) / MIB
    assert large["own_peak"] - small["own_peak"] < 0.45 * added
    assert large["peak"] - small["peak"] < 0.45 * added


def test_processes_that_encode_at_once_write_one_corpus(tmp_path, forks):
    path, cache = tmp_path / "text.txt", tmp_path / "cache"
    write_text(path, 1)
    told = forks.answers("test_corpus.once", path, cache, times=3)
    assert told == [told[0]] * 3 and told[0]["tokens"] > 100_000
    (folder,) = [entry for entry in cache.iterdir() if entry.is_dir()]
    assert sorted(file.name for file in folder.iterdir()) == ["about.json", "ends.bin", "tokens.bin"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_encoding_goes_on_and_nothing_passes_for_a_corpus(tmp_path, forks, number):
    path, cache = tmp_path / "text.txt", tmp_path / "cache"
    write_text(path, 3)
    stop_while_written(forks, "test_corpus.once", path, cache, ".*parts/000000", number)
    (parts,) = (entry for entry in cache.iterdir() if entry.is_dir())
    assert parts.suffix == ".parts"
    assert [entry.name for entry in parts.iterdir() if entry.name[0] != "."] == ["000000"]
    (told,) = forks.answers("test_corpus.once", path, cache)
    assert [told] == forks.answers("test_corpus.once", path, tmp_path / "undisturbed")
    assert told["tokens"] > 400_000
    assert len([entry for entry in cache.iterdir() if entry.is_dir()]) == 1  # the rest was removed


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]), sys.argv[2]), indent=1 if sys.stdout.isatty() else None))
