"""What the tests share: the repository's files, a copy of it, real commands, small data."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
import gc
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from forked_commands import Forked, places_of, tinybert_nb_here

# No hub and no progress bars: libraries read this when they are imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
               "TINYBERT_NB_PRECISION": "no"}  # float32: a test does not depend on the processor

# A shell that runs the tests in the background has Ctrl-C ignored, and the commands that are tested
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
STUDENT = "tinybert-3l-192"
SMALL_STUDENT = "2l-24-12h"  # of the small teacher
# In the data folder: what runs leave there, each below the fingerprint of its inputs.
COMPUTED = {"answers", "encoded", "labelled", "memory", "noisy", "splits", "traces", "unlabelled"}
TRAIN, EVAL = ROOT / "data" / "train.txt", ROOT / "data" / "eval.txt"
# One epoch on short sentences: enough to go through every step, little enough to take seconds.
SHORT = ["--epochs", "1", "--batch-size", "16", "--max-length", "32", "--precision", "no"]


def tracked_files() -> list[Path]:
    """The files git tracks or would track; without git, all but what .gitignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        built = {
            ".git",
            ".venv",
            "build",
            "dist",
            "runs",
            "__pycache__",
            ".pytest_cache",
            "assets",
            "chinese-reviews",
            "chinese-teacher",
            "encoded",
            "general",
            "masked-lm",
            "memory",
            "review-texts",
            "reviews",
            "splits",
            "traces",
            "vectors",
        }
        found = [path for path in ROOT.rglob("*") if not built & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def cells_of(notebook: Path, kind: str = "code") -> list[dict]:
    """The cells of one kind, each with its source as one string."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        dict(cell, source="".join(cell["source"])) for cell in cells if cell["cell_type"] == kind
    ]


def command_environment() -> dict[str, str]:
    """The environment of a command: as above, and without the mark that a test is running."""
    return {key: value for key, value in os.environ.items() if key != "IN_TEST"}


def run_command(
    *words, folder: Path = ROOT, timeout: float = 600, **more
) -> subprocess.CompletedProcess:
    """Run a command as a user does; output captured as text."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        **more,
    )


def started(*words, folder: Path = ROOT, barred=(), **variables) -> Forked:
    """`tinybert-nb ...` at work, in a process of its own whose imports are made already."""
    arguments = [str(word) for word in words], barred
    return Forked(tinybert_nb_here, arguments, folder, command_environment() | variables)


def tinybert_nb(*words, timeout: float = 600, **more) -> subprocess.CompletedProcess:
    """The same, when it has ended."""
    said = (process := started(*words, **more)).communicate(timeout)
    return subprocess.CompletedProcess(["tinybert-nb", *words], process.returncode, *said)


def together(function, *arguments, count: int = 2, timeout: float = 600) -> None:
    """The function in several processes that know of each other, until all have ended."""
    processes = [Forked(function, arguments, ROOT, command_environment() | place) for place in places_of(count)]
    said = [process.communicate(timeout) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said


def succeeded(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """The same result, or a failure that shows what the command said."""
    assert (
        result.returncode == 0
    ), f"{result.args}\n{result.stdout[-3000:]}\n{result.stderr[-6000:]}"
    return result


def history_rows(run: Path) -> list[dict]:
    """The rows of a run folder's history."""
    return [
        json.loads(line)
        for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def result_rows(path: Path) -> list[dict]:
    """The rows of a results table."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    return saved["rows"] if isinstance(saved, dict) else saved


def checkpoint_times(folder: Path) -> dict[str, int]:
    """When each checkpoint below `folder` was written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("model.safetensors"))
    }


class Page(HTMLParser):
    """What a page would load or run: tags with their attributes, styles, its policy."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.styles, self._in_style = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in_style = tag == "style"
        self.styles += dict(attributes).get("style") or ""

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        self.styles += data if self._in_style else ""

    def named(self, tag: str) -> list[dict]:
        """The attributes of each such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def browser():
    """A Chromium at work."""
    from system_packages import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory) -> Path:
    """A data folder for these tests: what is fetched is shared, what is computed is their own."""
    from tinybert_nb.data.catalogue import data_folder

    shared, folder = data_folder(), tmp_path_factory.mktemp("data-folder")
    for name in ("assets", "reviews"):
        (shared / name).mkdir(parents=True, exist_ok=True)
    for path in shared.iterdir():
        if path.is_dir() and path.name not in COMPUTED:
            (folder / path.name).symlink_to(path)
    os.environ["TINYBERT_NB_DATA"] = str(folder)
    yield folder
    os.environ["TINYBERT_NB_DATA"] = str(shared)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> dict[str, Path]:
    """The first lines of the committed samples, both labels among them."""
    folder, files = tmp_path_factory.mktemp("data"), {}
    for name, source, count in (("train", TRAIN, 48), ("eval", EVAL, 24)):
        lines = source.read_text(encoding="utf-8").splitlines()[:count]
        assert (
            len({line.rsplit("\t", 1)[1] for line in lines}) > 1
        ), f"{source}: one label only at its start"
        files[name] = folder / f"{name}.txt"
        files[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


@cache
def small_tokenizer():
    """A tokenizer of the pieces that the samples use and of all letters: a fiftieth of the packaged
    one's, which costs as much less wherever a tokenizer is read, hashed or written, and its
    embedding too."""
    from transformers import BertTokenizer

    from tinybert_nb.models.tokenizers import load_tokenizer

    whole = load_tokenizer(TEACHER)
    texts = [line for path in sorted((ROOT / "data").glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines()]
    pieces = {piece for text in texts for piece in whole.tokenize(text)}
    pieces |= {mark + chr(code).lower() for code in range(33, 127) for mark in ("", "##")}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: number for number, piece in enumerate([*special, *sorted(pieces - {*special})])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    tokenizer.model_max_length = 256
    return tokenizer


def exported_model(checkpoint: Path, out: Path, max_length: int = 128) -> Path:
    """An ONNX export of a checkpoint, as if it had been trained with this length."""
    from tinybert_nb.deployment.onnx_export import export_model

    record = export_model(checkpoint, out) | {"max_length": max_length}
    (out / "export.json").write_text(json.dumps(record, default=str), encoding="utf-8")
    return out


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory) -> Path:
    """A teacher with random weights, where no test asks what it knows."""
    from tinybert_nb.models.initialization import save_random_model

    folder = tmp_path_factory.mktemp("models") / "teacher"
    return save_random_model(folder, "4l-48-12h", small_tokenizer())


@pytest.fixture(scope="session")
def teacher_run(small_data, small_teacher, tmp_path_factory) -> Path:
    """A run folder of `finetune` on the small data."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    succeeded(
        tinybert_nb(
            "finetune",
            "--train",
            small_data["train"],
            "--eval",
            small_data["eval"],
            "--teacher",
            small_teacher,
            "--out",
            out,
            *SHORT,
        )
    )
    return out


@pytest.fixture(scope="session")
def stage_one(small_data, teacher_run, tmp_path_factory):
    """A function that runs `stage-one` with the given options and returns its run folder."""

    def call(name: str, *options) -> Path:
        out = tmp_path_factory.mktemp("stage-one") / name
        succeeded(
            tinybert_nb(
                "stage-one",
                "--train",
                small_data["train"],
                "--eval",
                small_data["eval"],
                "--teacher",
                teacher_run / "best",
                "--student",
                SMALL_STUDENT,
                "--out",
                out,
                *SHORT,
                "--any-teacher",  # one epoch on 48 sentences may leave it with the majority's
                *options,
            )
        )
        return out

    return call


@pytest.fixture(scope="session")
def stage_one_run(stage_one) -> Path:
    """A run folder of `stage-one` on the small data."""
    return stage_one("first", "--seed", "7")


@pytest.fixture
def project_copy(tmp_path) -> Path:
    """The notebooks and settings alone, with no module built from them."""
    for name in ("settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(
        ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    return tmp_path


def pytest_collection_modifyitems(items):
    """The files that take minutes come first: begun last, they would be waited for."""
    long = ("test_browser", "test_commands", "test_tasks", "test_kill_and_resume", "test_corpus",
            "test_augmentation", "test_measures", "test_cards", "test_large_data", "test_exercises")
    order = {name: number for number, name in enumerate(long)}
    items.sort(key=lambda item: order.get(item.path.stem, len(long)))


def pytest_collection_finish(session):
    """What is imported by now is there to stay: no collection need look through it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session, exitstatus):
    """A test that was left out is no success."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and exitstatus == pytest.ExitCode.OK:
        for report in skipped:
            reporter.write_line(f"left out, so this run fails: {report.nodeid}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
