"""What a command can be told: help, settings files, --json, exit codes; evaluate, status, rerun."""

from pathlib import Path
from pkgutil import resolve_name
import json
import re
import shutil
import sys

import pytest

from conftest import ROOT, SHORT, history_rows, run_command, succeeded, tinybert_nb
from tinybert_nb.cli.arguments import options_of, shared_options
from tinybert_nb.cli.commands import COMMANDS, command_of, main, parse_arguments
from tinybert_nb.cli.help import described_options
from tinybert_nb.cli.option_groups import FromFile, Table
from tinybert_nb.evaluation.tables import results_table
from tinybert_nb.training.status import run_status, status_table

FILES = ["--train", ROOT / "data/train.txt", "--eval", ROOT / "data/eval.txt"]
YAML = "# a comment\nepochs: 7\nlearning_rate: 1e-4\nprecision: no\nteacher: runs/other\n"
JSON = '{\n\t"epochs": 7,\n\t"learning-rate": 1e-4,\n\t"precision": "no", "teacher": "runs/other"}\n'


@pytest.fixture
def said(capsys):
    """A function that runs `tinybert-nb` in this process: exit code, output, error stream."""

    def call(*words):
        try:
            code = main([str(word) for word in words]) or 0
        except SystemExit as leave:
            code = leave.code
        return (code, *capsys.readouterr())

    return call


def parts_of(command) -> list[type]:
    """The dataclasses whose fields are a command's options."""
    settings = [resolve_name(command.settings)] if issubclass(command, FromFile) else []
    return [command, *settings]


# Help and words ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_complete_help_names_every_option_with_its_comment_and_default(said, name):
    code, out, err = said(name, "--help-all")
    command = command_of(name)
    assert (code, err) == (0, "")
    assert " ".join(command.__doc__.split()[:5]) in " ".join(out.split())
    options = [option for part in parts_of(command) for option in options_of(part)]
    options += shared_options(parts_of(command)[-1])
    named = [option for option in options if f"--{option}" in out]
    unnamed = sum(each.positional for each in described_options(command, ""))
    assert len(options) - len(named) <= unnamed, "all but what stands without a name are options"
    assert out.count("(default:") + out.count("(required)") >= len({*options})
    assert re.findall(r"--[\w.-]+(?: [\w{,}|\[\].-]+)?\s+\((?:default|required)", out) == []
    for kind, option in ((Table, "--json FILE"), (FromFile, "--settings-file FILE")):
        assert (option in out) == issubclass(command, kind)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_and_leads_to_the_rest(said, name):
    code, out, err = said(name, "--help")
    complete = said(name, "--help-all")[1]
    assert (code, err) == (0, "")
    count = out.count("(default:") + out.count("(required)")
    assert count <= 30 and (out == complete) == ("--help-all" not in out)
    own = [option for option in options_of(command_of(name)) if f"--{option} " in complete]
    if name == "distill":
        assert 15 <= count <= 28 and "--stage-one.epochs INT" not in out
    assert [option for option in ("out", "train", "teacher", "json") if option in own
            and f"--{option} " not in out] == []


def test_help_tells_where_a_default_comes_from(said):
    out = " ".join(said("stage-two", "--help")[1].split())
    assert "of the soft targets (paper: 1) (default: 1.0)" in out
    out = " ".join(said("initializations", "--help-all")[1].split())
    assert "(default: 5e-05; stage-one 0.0005; stage-two 0.0001)" in out


def test_overview_names_every_command_and_every_exit_code(said):
    code, out, _ = said("--help")
    assert code == 0
    words = out.replace(",", " ").split()
    assert [name for name in (*COMMANDS, "0", "1", "2", "130", "143") if name not in words] == []


def test_help_needs_no_torch_and_is_whole():
    """Help comes at once, and no comment of a field goes on where the help does not see it."""
    program = """
import sys
from tinybert_nb.cli.commands import COMMANDS, parse_arguments
for words in (["--help"], *([name, "--help"] for name in COMMANDS)):
    try:
        parse_arguments(words)
    except SystemExit as leave:
        assert leave.code == 0
    heavy = {"torch", "transformers", "datasets", *(["tyro", "yaml", "tqdm"] if len(words) < 2 else [])}
    assert not heavy & {*sys.modules}, (words, heavy & {*sys.modules})
"""
    succeeded(run_command(sys.executable, "-c", program))
    clipped = [
        (path.name, line)
        for path in (ROOT / "tinybert_nb").rglob("*.py")
        for lines in [path.read_text(encoding="utf-8").splitlines()]
        for line, following in zip(lines, lines[1:])
        if re.match(r"    \w+: .* = .*#", line) and re.match(r"    #", following)
    ]
    assert clipped == []


def test_a_log_holds_lines_of_progress_and_no_carriage_returns(small_data, small_teacher, tmp_path):
    command = ["env", "-u", "TQDM_DISABLE", Path(sys.executable).parent / "tinybert-nb"]
    words = ["finetune", "--train", small_data["train"], "--eval", small_data["eval"], *SHORT]
    words += ["--teacher", small_teacher, "--out", tmp_path / "run"]
    result = succeeded(run_command(*command, *words))
    assert "\r" not in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("fine-tuning: 100%")]


@pytest.mark.parametrize(
    "words, right",
    [
        (["finetun"], "finetune"),
        (["--versoin"], "there is no option --versoin: did you mean --version?"),
        (["stage_on"], "stage-one"),
        (["evaluat", "--help"], "evaluate"),
        (["stage-one", "--epoch", "3", *FILES, "--teacher", "x"], "--epochs"),
        (["finetune", "--lerning-rate", "3", *FILES], "--learning-rate"),
        (["distill", "--stage-one.epoch", "3", *FILES], "--stage-one.epochs"),
        (["status", "--jsn", "x"], "--json"),
    ],
)
def test_wrong_word_is_answered_with_the_nearest_right_one(said, words, right):
    code, out, err = said(*words)
    assert (code, out) == (2, "")
    assert right in err and "Traceback" not in err


@pytest.mark.parametrize(
    "words", [[], ["finetune"], ["finetune", *FILES, "--epochs", "0"], ["evaluate", "--eval", "x"]]
)
def test_words_that_are_no_call_give_exit_code_2(said, words):
    code, out, err = said(*words)
    assert (code, out) == (2, "") and err.strip()


def test_a_list_without_a_value_is_refused_before_anything_is_read(said):
    code, _, error = said("align", "--teacher", "x", "--student", "y", "--text")
    assert code == 1 and error.strip() == "tinybert-nb: text is empty: give it one sentence or more"


def test_command_name_may_have_an_underscore():
    command, settings = parse_arguments(["stage_one", *map(str, FILES), "--teacher", "x"])
    assert type(command).__name__ == "StageOne" and settings.budget == "standard"


# Settings files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name, text", [("s.yaml", YAML), ("s.json", JSON)])
def test_settings_file_is_read_and_words_win(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    words = ["finetune", *map(str, FILES), "--settings-file", str(tmp_path / name)]
    command, settings = parse_arguments(words)
    assert (settings.epochs, settings.learning_rate, settings.precision) == (7, 1e-4, "no")
    assert command.teacher == "runs/other" and settings.batch_size == 32
    for order in (words + ["--epochs", "8"], [words[0], "--epochs", "8", *words[1:]]):
        assert parse_arguments(order)[1].epochs == 8


def test_settings_file_holds_the_settings_of_each_part(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "stage-one: {epochs: 4, dropout: yes}\nstage_two:\n  more_teachers: [a, b]\nalone: off\n"
    )
    words = ["distill", *map(str, FILES), f"--settings-file={tmp_path / 's.yaml'}"]
    settings = parse_arguments(words + ["--stage-one.no-dropout"])[1]
    assert (settings.stage_one.epochs, settings.stage_one.dropout) == (4, False)
    assert settings.stage_two.more_teachers == ("a", "b")
    assert (settings.finetune.epochs, settings.baseline) == (None, False)


# Options that stages share ----------------------------------------------------------------------


def stages_of(*words):
    """The settings of `distill`, and those of its stages."""
    recipe = parse_arguments(["distill", "--train", "x", *map(str, words)])[1]
    return recipe, [recipe.finetune, recipe.stage_one, recipe.stage_two]


@pytest.mark.parametrize("own_first", [True, False])
def test_shared_option_sets_all_stages_and_a_stages_own_wins(own_first):
    pairs = [["--seed", "3", "--precision=bf16", "--max_length", "64"], ["--stage-one.seed", "4"]]
    recipe, stages = stages_of(*sum(pairs[::-1] if own_first else pairs, []))
    assert [stage.seed for stage in stages] == [3, 4, 3]
    assert [stage.seed for stage in stages_of(*pairs[0], "--stage-one.seed", "0")[1]] == [3, 0, 3]
    assert {(stage.precision, stage.max_length) for stage in stages} == {("bf16", 64)}
    assert [stage.epochs for stage in stages] == [None] * 3


def test_shared_option_stands_in_a_settings_file_too(tmp_path):
    (tmp_path / "s.yaml").write_text("stage_one: {epochs: 6, tf32: no}\nepochs: 4\ntf32: yes\nseed: 5\n")
    file = ["--settings-file", tmp_path / "s.yaml"]
    recipe, stages = stages_of(*file)
    assert [stage.epochs for stage in stages] == [4, 6, 4] and {stage.seed for stage in stages} == {5}
    assert [stage.tf32 for stage in stages] == [True, False, True]
    assert [stage.epochs for stage in stages_of(*file, "--epochs", "1")[1]] == [1, 1, 1]
    assert [stage.epochs for stage in stages_of(*file, "--stage-two.epochs", "1")[1]] == [4, 6, 1]
    assert [stage.tf32 for stage in stages_of(*file, "--no-tf32")[1]] == [False, False, False]


def test_optimizer_and_layers_are_shared_and_the_gold_terms_settings_belong_to_their_stages(said):
    words = ["--optimizer", "bertadam", "--layer-decay", "0.9", "--stage-two.frozen-layers", "1"]
    words += ["--finetune.class-weights", "balanced", "--finetune.label-smoothing", "0.1"]
    recipe, stages = stages_of(*words)
    assert {(stage.optimizer, stage.layer_decay) for stage in stages} == {("bertadam", 0.9)}
    assert [stage.frozen_layers for stage in stages] == [0, 0, 1]
    assert (recipe.finetune.class_weights, recipe.finetune.label_smoothing) == ("balanced", 0.1)
    assert (recipe.stage_two.class_weights, recipe.stage_two.label_smoothing) == ("none", 0.0)
    for name in ("finetune", "stage-two", "distill"):
        usual, complete = said(name, "--help")[1], said(name, "--help-all")[1]
        for option in ("optimizer", "layer-decay", "frozen-layers", "label-smoothing", "class-weights"):
            assert option not in usual and option in complete


def test_every_option_of_a_stage_is_still_there():
    recipe, (first, *_) = stages_of("--finetune.batch-size", "8", "--no-baseline", "--stage-two.temperature=2")
    assert (first.batch_size, recipe.baseline, recipe.stage_two.temperature) == (8, False, 2.0)


def test_studies_share_options_except_the_seed_that_they_set():
    for name in ("ablate", "initializations"):
        settings = parse_arguments([name, "--train", "x", "--epochs", "1"])[1]
        assert settings.finetune.epochs == settings.stage_one.epochs == settings.stage_two.epochs == 1
    with pytest.raises(ValueError, match="there is no option --seed"):
        parse_arguments(["initializations", "--train", "x", "--seed", "1"])


def test_misspelt_shared_option_is_answered(said, tmp_path):
    assert "did you mean --epochs" in said("distill", *FILES, "--epoch", "3")[2]
    (tmp_path / "s.yaml").write_text("precision: fp17\n")
    err = said("distill", *FILES, "--settings-file", tmp_path / "s.yaml")[2]
    assert "s.yaml:1: precision is fp17, and must be one of auto, no, bf16, fp16" in err


@pytest.mark.parametrize(
    "command, name, text, sentence",
    [
        ("finetune", "s.yaml", "seed: 1\nepoch: 3\n", "s.yaml:2: there is no setting epoch: did you mean epochs?"),
        ("distill", "s.yaml", "stage-one:\n  sede: 3\n", "s.yaml:2: there is no setting stage-one.sede: did you mean stage-one.seed?"),
        ("finetune", "s.yaml", "seed: 1\nepochs: many\n", "s.yaml:2: epochs is many, and must be a whole number"),
        ("finetune", "s.yaml", "schedule: round\n", "s.yaml:1: schedule is round, and must be one of linear, constant"),
        ("finetune", "s.yaml", "optimizer: sgd\n", "s.yaml:1: optimizer is sgd, and must be one of adamw, bertadam"),
        ("finetune", "s.yaml", "class-weights: even\n", "s.yaml:1: class-weights is even, and must be one of none, balanced"),
        ("finetune", "s.yaml", "layer_decay: 2\n", "layer_decay is 2.0: it must lie between 0 and 1 (with the settings of"),
        ("distill", "s.yaml", "stage_two: {label_smoothing: 0.1}\n", "label_smoothing is 0.1, and gold_weight is 0"),
        ("finetune", "s.yaml", "settings-file: other.yaml\n", "s.yaml:1: there is no setting settings-file"),
        ("finetune", "s.yaml", "epochs: 3\n learning_rate: 1\n", "s.yaml:2: not YAML"),
        ("finetune", "s.yaml", "epochs: !!python/name:os.system x\n", "s.yaml:1: epochs is x"),
        ("finetune", "s.json", '{"seed": 1,\n"epoch": 3}', "s.json:2: there is no setting epoch: did you mean epochs?"),
        ("finetune", "s.json", '{"seed": 1,\n}', "s.json:2: not JSON"),
        ("finetune", "s.yaml", "epochs: 0\n", "epochs is 0: it must be above 0 (with the settings of"),
        ("distill", "s.yaml", "stage-one: {epochs: 0}\n", "s.yaml)"),
    ],
)  # fmt: skip
def test_fault_in_a_settings_file_is_named(said, tmp_path, command, name, text, sentence):
    (tmp_path / name).write_text(text, encoding="utf-8")
    code, out, err = said(command, *FILES, "--settings-file", tmp_path / name)
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.split()) and name in err and "Traceback" not in err


def test_settings_file_that_is_not_there_is_named(said, tmp_path):
    code, _, err = said("finetune", *FILES, "--settings-file", tmp_path / "nowhere.yaml")
    assert code == 2 and "nowhere.yaml: No such file" in err


def test_run_is_made_with_the_settings_of_the_file(small_data, small_teacher, tmp_path):
    lines = [f"{name}: {small_data[name]}" for name in ("train", "eval")]
    lines += [f"out: {tmp_path / 'run'}", "epochs: 1", "batch_size: 24", "max_length: 16"]
    lines += [f"teacher: {small_teacher}"]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    succeeded(tinybert_nb("finetune", "--settings-file", tmp_path / "s.yaml", "--seed", "5"))
    recorded = json.loads((tmp_path / "run/settings.json").read_text())["call"]["arguments"]
    assert recorded["settings"]["max_length"] == 16 and recorded["settings"]["seed"] == 5
    assert history_rows(tmp_path / "run")[-1]["step"] == 2


# Tables and their rows --------------------------------------------------------------------------


def test_json_of_plan_is_what_is_printed(said, tmp_path):
    code, out, _ = said("plan", "--student", "3l-192", "--json", tmp_path / "new/plan.json")
    (row,) = json.loads((tmp_path / "new/plan.json").read_text())
    assert code == 0 and row["matches"] and [m for m in row["matches"] if m not in out] == []
    assert f"{row['speed_up']:.1f}" in out


def test_json_of_bench_is_what_is_printed(said, tmp_path, monkeypatch):
    rows = [{"procedure": "reference", "seconds": 1.5}]
    monkeypatch.setattr("tinybert_nb.studies.benchmark.run_benchmark", lambda settings: rows)
    monkeypatch.setattr("tinybert_nb.studies.benchmark_tables.benchmark_table", json.dumps)
    code, out, _ = said("bench", "--json", tmp_path / "rows.json")
    assert code == 0 and json.loads(out) == rows
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_json_that_cannot_be_written_is_refused_before_anything_is_done(said, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file/rows.json"):
        code, out, err = said("plan", "--json", path)
        assert (code, out) == (2, "") and str(path) in err


# evaluate ---------------------------------------------------------------------------------------


def test_evaluate_prints_the_table_and_keeps_its_rows(small_data, teacher_run, stage_one_run, tmp_path):
    folders = [f"{teacher_run}/best", f"{teacher_run}/last"]
    files = ["--eval", small_data["eval"], "--train", small_data["train"]]
    result = succeeded(tinybert_nb("evaluate", *folders, *files, "--json", tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["system"] for row in rows] == ["majority", *folders]
    assert result.stdout.startswith(results_table(rows) + "\n")
    best = json.loads((teacher_run / "result.json").read_text())["best"]
    assert rows[1]["accuracy"] == pytest.approx(best) and rows[1]["latency_ms_batch_1"] > 0


def test_evaluate_refuses_labels_that_a_checkpoint_does_not_know(said, teacher_run, tmp_path):
    (tmp_path / "eval.txt").write_text("a film\tpositive\na film\tneutral\n")
    code, _, err = said("evaluate", teacher_run / "best", "--eval", tmp_path / "eval.txt")
    assert code == 1
    assert all(word in err for word in (str(teacher_run), "neutral", "negative, positive"))


# status and rerun -------------------------------------------------------------------------------


def test_status_of_a_finished_run(said, stage_one_run, tmp_path):
    code, out, _ = said("status", stage_one_run, "--json", tmp_path / "rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    history, result = history_rows(stage_one_run), json.loads(
        (stage_one_run / "result.json").read_text()
    )
    assert (code, row["state"], row["metric"], row["resume"]) == (0, "finished", "loss", "")
    assert (row["best"], row["step"]) == (result["best"], history[-1]["step"])
    assert row["dev"] == history[-1] and row["folder"] == str(stage_one_run)
    assert [line.split("|")[1:8] for line in out.splitlines()] == [
        line.split("|")[1:8] for line in status_table([row]).splitlines()
    ]


def test_status_finds_the_runs_below_a_folder_and_refuses_one_without(said, teacher_run, tmp_path):
    shutil.copytree(teacher_run, tmp_path / "deep/down")
    assert [row["folder"] for row in run_status(tmp_path)] == [str(tmp_path / "deep/down")]
    code, _, err = said("status", teacher_run / "best")
    assert code == 1 and "there is no run in" in err


def test_status_needs_no_torch(teacher_run):
    program = (
        "import sys; from tinybert_nb.cli.commands import main; main(['status', sys.argv[1]]);"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    result = succeeded(run_command(sys.executable, "-c", program, teacher_run))
    assert "finished" in result.stdout and result.stdout.endswith("set()\n")


@pytest.fixture(scope="module")
def second_run(stage_one_run, tmp_path_factory) -> tuple[Path, str]:
    """The folder of `rerun` on the first run, and what it said."""
    out = tmp_path_factory.mktemp("rerun") / "second"
    return out, succeeded(tinybert_nb("rerun", stage_one_run, "--out", out)).stdout


def test_rerun_gives_the_same_history(stage_one_run, second_run):
    out, said = second_run
    rows = history_rows(out)
    assert said == f"the same history, {len(rows)} rows, in {out}\n"
    assert rows == history_rows(stage_one_run)
    first, second = ((run / "last/model.safetensors").read_bytes() for run in (stage_one_run, out))
    assert first == second


def test_rerun_tells_the_first_differences(said, stage_one_run, second_run, tmp_path):
    shutil.copytree(stage_one_run, tmp_path / "run")
    row, *rest = history_rows(stage_one_run)
    changed = [row | {"loss": row["loss"] + 1e-12}, *rest]
    text = "".join(json.dumps(row) + "\n" for row in changed)
    (tmp_path / "run/history.jsonl").write_text(text)
    code, out, _ = said("rerun", tmp_path / "run", "--out", second_run[0])
    assert code == 1
    assert out.splitlines()[1:] == [
        f"row 1, train after update {row['step']}: loss: {changed[0]['loss']!r} there, "
        f"{row['loss']!r} now"
    ]


def test_rerun_refuses_data_that_changed(said, stage_one_run, tmp_path):
    shutil.copytree(stage_one_run, tmp_path / "run")
    settings = json.loads((tmp_path / "run/settings.json").read_text())
    (train,) = [path for path in settings["data"] if path.endswith("train.txt")]
    shutil.copy(train, tmp_path / "train.txt")
    with (tmp_path / "train.txt").open("a") as file:
        file.write("one film more\tpositive\n")
    text = (tmp_path / "run/settings.json").read_text().replace(train, str(tmp_path / "train.txt"))
    (tmp_path / "run/settings.json").write_text(text)
    code, _, err = said("rerun", tmp_path / "run", "--out", tmp_path / "again")
    assert code == 1 and f"{tmp_path / 'train.txt'} has changed" in err
    assert not (tmp_path / "again").exists()
