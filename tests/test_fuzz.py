"""Random and damaged lines through the readers: each is read right, or refused by file and line.

What is right is decided here by other means than in the package. Run as a program this file does
as many lines as it is told: `python tests/test_fuzz.py 1000000`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
import json
import random
import re
import sys

import pytest

from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.task_form import DataError, TaskForm

FORM = TaskForm(text="text", label="label")
WORDS = "fine dull 好看 café naïve 🎬 “so” 'n' , . % $ 1.5 <b> \\n NaN null".split()
DAMAGE = [b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b'"', b"{", b"}", b" ", b",", b"\\"]
LINES_A_FILE = 200


def good_line(chance: random.Random, kind: str) -> bytes:
    """A line as a careful program would write it."""
    text = " ".join(chance.choices(WORDS, k=chance.randint(1, 8)))
    label = chance.choice(["good", "bad", "0", "1"])
    if kind == "jsonl":
        record = {"text": text, "label": label}
        return json.dumps(record, ensure_ascii=chance.random() < 0.5).encode()
    return f"{text}\t{label}".encode()


def damaged(chance: random.Random, line: bytes) -> bytes:
    """The line with a few bytes put in, taken out or exchanged; or nothing but noise."""
    if chance.random() < 0.05:
        return bytes(chance.randrange(256) for _ in range(chance.randint(0, 30)))
    spoilt = bytearray(line)
    for _ in range(chance.randint(1, 3)):
        spot = chance.randrange(len(spoilt) + 1)
        spoilt[spot : spot + chance.randint(0, 2)] = chance.choice(DAMAGE + [b""])
    return bytes(spoilt)


def expected(lines: list[bytes], kind: str) -> list[tuple[str, str] | None]:
    """(text, label) of each line, None for one that must be refused."""
    if lines[0].startswith(b"\xef\xbb\xbf"):
        lines = [lines[0][3:], *lines[1:]]
    while lines and not lines[-1].strip():  # a blank line at the end is no fault
        lines = lines[:-1]
    return [{"jsonl": from_json, "txt": from_tabs}[kind](line) for line in lines]


def from_tabs(line: bytes) -> tuple[str, str] | None:
    """What a line of text, tab, label says."""
    try:
        cells = line.decode("utf-8").split("\t")
    except UnicodeDecodeError:
        return None
    cells = [cell.strip() for cell in cells]
    return tuple(cells) if len(cells) == 2 and all(cells) and "\0" not in cells[0] else None


def from_json(line: bytes) -> tuple[str, str] | None:
    """What an object says."""
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        return None
    text, label = record["text"].strip(), record.get("label")
    if not text or "\0" in text or label is None or isinstance(label, (dict, list)):
        return None
    try:
        text.encode("utf-8")  # half a character has no bytes
    except UnicodeEncodeError:
        return None
    return (text, str(label).strip()) if str(label).strip() else None


def check_file(path: Path, lines: list[bytes], kind: str):
    """Read the lines; faults must be named where they are, and the rest be read as it is."""
    path.write_bytes(b"\n".join(lines) + b"\n")
    lines = b"\n".join(lines).split(b"\n")  # damage may have cut a line in two
    right = expected(lines, kind)
    bad = [number for number, pair in enumerate(right, start=1) if pair is None]
    form = FORM if kind == "jsonl" else TaskForm()
    try:
        examples = read_examples(path, form=form)
    except DataError as error:
        assert bad, error
        told = [int(number) for number in re.findall(rf"^{re.escape(str(path))}:(\d+): ", str(error), re.MULTILINE)]
        assert told == bad[:10], (told, bad[:10], lines[(told + bad)[0] - 1])
        count = re.search(r"(\d+) bad lines?", str(error))
        assert int(count.group(1)) == len(bad)
        kept = [line for line, pair in zip(lines, right) if pair is not None]
        if kept:
            path.write_bytes(b"\n".join(kept) + b"\n")
            examples = read_examples(path, form=form)
            right = expected(kept, kind)
        else:
            return
    else:
        assert not bad, bad
    assert [(example.text_a, example.label) for example in examples] == right


def run(count: int, kind: str, seed: int = 0) -> int:
    """So many lines, in files of two hundred, of which some are whole."""
    chance, done = random.Random(f"{kind} {seed}"), 0
    with TemporaryDirectory() as folder:
        while done < count:
            share = chance.choice([0.0, 0.01, 0.2, 1.0])
            lines = [good_line(chance, kind) for _ in range(LINES_A_FILE)]
            lines = [damaged(chance, line) if chance.random() < share else line for line in lines]
            lines[0] = good_line(chance, kind)  # it says how many columns there are
            check_file(Path(folder) / f"lines.{kind}", lines, kind)
            done += len(lines)
    return done


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_damaged_lines_are_read_right_or_refused_by_file_and_line(kind):
    assert run(20_000, kind) == 20_000


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "words.conll", "asked.json", "rows.jsonl"])
def test_noise_is_never_read_as_anything_but_an_error_or_examples(name, tmp_path):
    chance, path = random.Random(name), tmp_path / name
    problem = {"words.conll": "tokens", "asked.json": "spans"}.get(name, "single")
    read = 0
    for _ in range(400):
        lines = [b"text,label"] if name.endswith(".csv") else [b"text\tlabel"] if name.endswith(".tsv") else []
        for _ in range(5):
            line = good_line(chance, "txt").replace(b"\t", {".csv": b",", ".tsv": b"\t"}.get(path.suffix, b" "))
            line = b" ".join(line.split()[-2:]) if path.suffix == ".conll" else line
            lines.append(damaged(chance, line) if chance.random() < 0.3 else line)
        path.write_bytes(b"\n".join(lines))
        try:
            read += len(read_examples(path, form=TaskForm(problem=problem)))
        except DataError as error:
            assert name in str(error)
    assert read or name in ("asked.json", "rows.jsonl")


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    for kind in ("txt", "jsonl"):
        print(f"{run(wanted // 2, kind):,} lines of {kind}: read right, or refused by file and line")
