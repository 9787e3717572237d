"""Files as other people have them: each is read right, or refused by what it is."""

import json
import random
import zipfile

import pytest

from conftest import EVAL, STUDENT, TEACHER, TRAIN, SHORT, succeeded, tinybert_nb
from test_augmentation import save_masked_lm
from test_tasks import SMALL

from tinybert_nb.data.examples import read_examples
from tinybert_nb.data.labels import scan_labels
from tinybert_nb.data.task_form import DataError, TaskForm

NEWS = [("3", "Wall St. Bears Claw Back", "Short-sellers, Wall Street's band, again."), ("2", "Giants win", "New York won."),
        ("3", "Oil prices soar", 'Iraq halts "all" exports.'), ("2", "Cup final", "It rained; nobody left.")] * 5
SPAM = [("ham", "Go until jurong point, crazy.. Available only"), ("spam", "Free entry in 2 a wkly comp"),
        ("ham", "Ok lar... Joking wif u oni..."), ("spam", 'WINNER!! "You" have won £900; claim now')] * 5
BY_POSITION = TaskForm("1", label="0")


def quoted(rows, separator: str = ",") -> str:
    """CSV with every cell in quotation marks."""
    return "".join(separator.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in rows)


def tabbed(rows) -> str:
    """Lines with tabs."""
    return "".join("\t".join(row) + "\n" for row in rows)


SPAM_FILES = {  # name -> content, form
    "headless.tsv": (tabbed(SPAM), BY_POSITION),
    "headless.csv": (quoted(SPAM), BY_POSITION),
    "unusual.tsv": ("v1\tv2\n" + tabbed(SPAM), BY_POSITION),
    "unusual.csv": ("v1,v2,,\n" + quoted([(*row, "", "") for row in SPAM]), BY_POSITION),
    "usual.tsv": ("label\tmsg\n" + tabbed(SPAM), BY_POSITION),
    "named.tsv": ("v1\tv2\n" + tabbed(SPAM), TaskForm("v2", label="v1")),
    "numbers.csv": ("0,1\n" + quoted(SPAM), BY_POSITION),
    "turned-numbers.csv": ("1,0\n" + quoted(SPAM), TaskForm("0", label="1")),
    "twice.csv": ("kind,text,text\n" + quoted([(label, text, "x") for label, text in SPAM]), BY_POSITION),
    "excel.csv": ("sep=;\r\nlabel;text\r\n" + quoted(SPAM, ";"), TaskForm()),
    "semicolons.csv": ("label;text\r\n" + quoted(SPAM, ";"), TaskForm()),
    "tabs.csv": ("label\ttext\r\n" + quoted(SPAM, "\t"), TaskForm()),
    "blank-end.csv": ("label,text\n" + quoted(SPAM) + "\n\n \n", TaskForm()),
    "array.json": (json.dumps([dict(zip(("label", "text"), row)) for row in SPAM], indent=2), TaskForm()),
}


@pytest.mark.filterwarnings("ignore:.*is taken for a header")
@pytest.mark.parametrize("name", SPAM_FILES)
def test_the_same_messages_come_out_of_every_file(name, tmp_path):
    content, form = SPAM_FILES[name]
    (tmp_path / name).write_bytes(content.encode())
    (tmp_path / f"marked-{name}").write_bytes(content.encode("utf-16"))
    (tmp_path / f"western-{name}").write_bytes(content.replace("£", "\u20ac").encode("cp1252"))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr(name, content)
    for path in (tmp_path / name, tmp_path / "packed.zip"):
        assert [(example.label, example.text_a) for example in read_examples(path, form=form)] == SPAM
        assert scan_labels(path, form) == ["ham", "spam"]
    with pytest.warns(UserWarning, match="read as UTF-16"):
        assert [example.text_a for example in read_examples(tmp_path / f"marked-{name}", form=form)] == [text for _, text in SPAM]
    if name != "array.json":  # which is ASCII
        with pytest.raises(DataError, match="0x80.*is not valid UTF-8; in cp1252 the line is .*\u20ac900; .*: set encoding to cp1252"):
            read_examples(tmp_path / f"western-{name}", form=form)


@pytest.mark.parametrize("header", ["", "Class Index,Title,Description\n"])
def test_news_with_a_header_and_without(header, tmp_path):
    (tmp_path / "news.csv").write_text(header + quoted(NEWS), encoding="utf-8")
    form = TaskForm("1", "2", "0", header="auto" if not header else "yes")
    examples = read_examples(tmp_path / "news.csv", form=form)
    assert [(example.label, example.text_a, example.text_b) for example in examples] == NEWS
    assert scan_labels(tmp_path / "news.csv", form) == ["2", "3"]


def test_a_table_read_the_wrong_way_round_is_noted(tmp_path):
    rows = [(label, f"{text} {number}") for number, (label, text) in enumerate(SPAM)]
    (tmp_path / "spam.tsv").write_text(tabbed(rows), encoding="utf-8")
    with pytest.warns(UserWarning, match="20 classes in 20 rows; is this the column of the label"):
        scan_labels(tmp_path / "spam.tsv")


def test_words_with_spaces_and_words_without_tokens_go_the_whole_road(small_teacher, tmp_path):
    chance, texts = random.Random(0), ["# newdoc\n# newpar\n1\t\u3000\t_\tX\n"]  # no piece at all
    for _ in range(7):
        name = chance.choice(["Ada", "Emmy"])
        texts.append(f"# text = {name}\n1\t{name}\tPROPN\tB-PER\n2\tpays\tVERB\tO\n3\t10 000\tNUM\tO\n")
    (tmp_path / "names.conllu").write_text("\n".join(texts), encoding="utf-8")
    form = ["--problem", "tokens", "--text", "1", "--label", "3"]
    succeeded(tinybert_nb("distill", "--train", tmp_path / "names.conllu", "--eval", tmp_path / "names.conllu", *form, *SMALL,
                          "--augment", "--augmentation.samples", "1", "--augmentation.vectors", "none",
                          "--augmentation.masked-lm", save_masked_lm(tmp_path / "masked-lm"), "--teacher", small_teacher,
                          *(f"--{stage}.batch-size=1" for stage in ("finetune", "stage-one", "stage-two")),
                          "--out", tmp_path / "run"))
    (made,) = (tmp_path / "run").glob("aug_*.conllu")
    rows = read_examples(made, form=TaskForm("1", label="3", problem="tokens"))
    assert len(rows) >= 8 and rows[0].text_a == "\u3000" and {len(row.label) for row in rows} == {1, 3}


def test_encoding_is_named_and_then_taken(small_teacher, tmp_path):
    path, run = tmp_path / "reviews.tsv", tmp_path / "run"
    path.write_bytes(("Un très beau film, déjà vu\tbon\nUn film raté\tmauvais\n" * 8).encode("latin-1"))
    words = ["finetune", "--train", path, "--eval", path, "--teacher", small_teacher, "--out", run, *SHORT]
    refused = tinybert_nb(*words)
    assert refused.returncode == 1 and "reviews.tsv:1: byte 6 (0xe8) is not valid UTF-8; in cp1252" in refused.stderr
    assert not run.exists()
    succeeded(tinybert_nb(*words[:3], "--encoding", "cp1252", "--teacher", small_teacher, "--out", run, *SHORT))  # its dev set is split off
    assert (run / "best/model.safetensors").exists()


def test_bad_rows_are_refused_or_left_out_and_counted(small_teacher, tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text(TRAIN.read_text(encoding="utf-8") + "broken\n" + "a\tb\tc\td\n", encoding="utf-8")
    words = ["finetune", "--train", path, "--eval", EVAL, "--teacher", small_teacher, *SHORT]
    refused = tinybert_nb(*words, "--out", tmp_path / "refused")
    assert refused.returncode == 1 and "rows.tsv: 2 bad lines" in refused.stderr
    done = succeeded(tinybert_nb(*words, "--bad-rows", "skip", "--out", tmp_path / "run"))
    assert done.stderr.count("rows.tsv: 2 of 62 rows are bad and were skipped; the first is") == 1


DRAWING = {
    "demo": ["--preset", "tiny"],
    "align": ["--teacher", TEACHER, "--student", TEACHER],
    "compare": [TEACHER],
    "ablate": ["--train", TRAIN, "--eval", EVAL, "--student", STUDENT],
    "explore": ["--teacher", TEACHER, "--student", TEACHER, "--no-browser"],
}


@pytest.mark.parametrize("command, barred", [
    *((command, ["matplotlib", "ipywidgets", "anywidget"]) for command in DRAWING),
    ("explore", ["anywidget"]), ("align", ["anywidget"])])
def test_without_the_libraries_for_pictures_the_extra_is_named_before_anything_is_done(command, barred, tmp_path):
    out = tmp_path / "out"
    words = DRAWING[command] if command == "explore" else [*DRAWING[command], "--out", out]
    result = tinybert_nb(command, *words, barred=barred)
    assert result.returncode == 1 and not out.exists()
    assert result.stderr.strip().splitlines()[-1].endswith("pip install 'tinybert_nb[notebooks]'") and "Traceback" not in result.stderr
