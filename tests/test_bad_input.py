"""What a user gets wrong is told in a sentence: file and line, or argument and choices."""

import ctypes
import os
import re

import pytest

from conftest import (
    EVAL, ROOT, SHORT, STUDENT, TEACHER, TRAIN, command_environment, tinybert_nb)
from forked_commands import Forked, tinybert_nb_here

GOOD = b"a warm and funny film\tpositive\na dull and empty film\tnegative\n"

# Each with what stands in the file, the line that is named, and a word of the sentence.
BAD_FILES = {
    "one column": (GOOD + b"no label here\n", 3, "column"),
    "four columns": (GOOD + b"a\tb\tc\tpositive\n", 3, "column"),
    "empty text": (GOOD + b"   \tpositive\n", 3, "empty"),
    "undecodable bytes": (GOOD + b"caf\xe9\tpositive\n", 3, "UTF-8"),
}


def refused(result, out) -> str:
    """What a command said that refused its input: no traceback, nothing trained."""
    assert result.returncode != 0, result.stdout
    assert result.stderr.strip(), "a refusal is told on the error stream"
    assert "Traceback" not in result.stderr, result.stderr
    assert not list(out.rglob("model.safetensors"))
    return result.stderr


def finetune(folder, train: bytes = GOOD, evaluation: bytes = GOOD, teacher: str = TEACHER) -> str:
    """`finetune` on these two files; what it said when it refused."""
    (folder / "train.txt").write_bytes(train)
    (folder / "eval.txt").write_bytes(evaluation)
    result = tinybert_nb(
        "finetune",
        "--train",
        folder / "train.txt",
        "--eval",
        folder / "eval.txt",
        "--teacher",
        teacher,
        "--out",
        folder / "run",
        *SHORT,
    )
    return refused(result, folder)


@pytest.mark.parametrize("content, line, word", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_line_is_named_with_file_and_line(tmp_path, content, line, word):
    said = finetune(tmp_path, train=content)
    assert f"train.txt:{line}:" in said
    assert word.lower() in said.lower()


@pytest.mark.parametrize("words", [["finetune"], ["finetune", "--eval", EVAL], ["distill"]],
                         ids=["split", "eval", "distill"])
def test_a_single_class_among_several_is_refused_with_the_users_file(tmp_path, words):
    """Every row has it, or some rows have none: the file that is named is not the split of it."""
    for name, labels, said_of in (("all.csv", "good good", "every row has the classes good"),
                                  ("some.csv", "good ", "the only class is good")):
        rows = "".join(f"film {number},{labels.split(' ')[number % 2]}\n" for number in range(20))
        (tmp_path / name).write_text("text,label\n" + rows)
        said = refused(tinybert_nb(*words, "--train", name, "--problem", "multi", "--out", "run",
                                   folder=tmp_path), tmp_path)
        assert f"{name}: {said_of}" in said


def test_bad_line_of_the_eval_file_is_named_too(tmp_path):
    assert "eval.txt:2:" in finetune(tmp_path, evaluation=b"a good film\tpositive\nno label here\n")


def test_label_that_training_does_not_know_is_named_with_the_labels_it_knows(tmp_path):
    said = finetune(tmp_path, evaluation=GOOD + b"a film\tneutral\n")
    assert "eval.txt:3:" in said
    assert all(label in said for label in ("neutral", "negative", "positive"))


def test_empty_file_is_refused(tmp_path):
    said = finetune(tmp_path, train=b"")
    assert "train.txt" in said and "empty" in said.lower()


def test_all_bad_lines_are_told_at_once_the_first_ten_and_the_count(tmp_path):
    said = finetune(tmp_path, train=GOOD + b"no label here\n" * 13)
    assert [int(number) for number in re.findall(r"train\.txt:(\d+):", said)] == list(range(3, 13))
    assert "13" in said


def test_missing_file_is_named(tmp_path):
    (tmp_path / "eval.txt").write_bytes(GOOD)
    result = tinybert_nb(
        "finetune",
        "--train",
        tmp_path / "nowhere.txt",
        "--eval",
        tmp_path / "eval.txt",
        "--teacher",
        TEACHER,
        "--out",
        tmp_path / "run",
        *SHORT,
    )
    assert "nowhere.txt" in refused(result, tmp_path)


def test_unknown_student_is_named_with_the_choices(tmp_path, small_data, teacher_run):
    result = tinybert_nb(
        "stage-one",
        "--train",
        small_data["train"],
        "--eval",
        small_data["eval"],
        "--teacher",
        teacher_run / "best",
        "--student",
        "tinybert-9l-9",
        "--out",
        tmp_path / "run",
        *SHORT,
    )
    said = refused(result, tmp_path)
    assert "tinybert-9l-9" in said and "tinybert-4l-312" in said and STUDENT in said


@pytest.mark.parametrize("command", ["stage-one", "stage-two"])
def test_missing_teacher_folder_is_named(tmp_path, small_data, command):
    result = tinybert_nb(
        command,
        "--train",
        small_data["train"],
        "--eval",
        small_data["eval"],
        "--teacher",
        tmp_path / "no-teacher",
        "--student",
        STUDENT,
        "--out",
        tmp_path / "run",
        *SHORT,
    )
    said = refused(result, tmp_path)
    assert "no-teacher" in said
    assert TEACHER in said or "finetune" in said, "what would do instead is told"


def test_teacher_that_is_neither_here_nor_on_a_hub_in_reach_is_named(tmp_path):
    said = finetune(tmp_path, teacher="nobody/no-such-teacher")
    assert "nobody/no-such-teacher" in said
    assert TEACHER in said, "the teacher that is always in reach is named"


def test_unknown_option_and_unknown_command_are_refused(tmp_path):
    for words in (["finetune", "--no-such-option", "1"], ["no-such-command"]):
        assert "no-such" in refused(tinybert_nb(*words), tmp_path)


def obeying_permissions(words: list[str]) -> None:
    """The command; root may write everywhere, and without this right (Linux's CAP_DAC_OVERRIDE, the
    second bit of the first of two sets of three masks) it obeys too."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        version_3, dac_override = 0x20080522, 1 << 1
        header, rights = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, rights) == 0
        for mask in range(2):  # effective, permitted
            rights[mask] &= ~dac_override
        assert libc.capset(header, rights) == 0
    tinybert_nb_here(words)


def test_a_folder_that_cannot_be_written_is_named(small_teacher, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o555)
    words = ["finetune", "--train", TRAIN, "--eval", EVAL, "--teacher", small_teacher, "--out", tmp_path / "mine/run", *SHORT]
    process = Forked(obeying_permissions, (list(map(str, words)),), ROOT, command_environment())
    _, said = process.communicate(300)
    assert process.returncode == 1 and "Traceback" not in said
    assert f"Permission denied: '{tmp_path / 'mine/run'}'" in said
    assert not list((tmp_path / "mine").iterdir())
