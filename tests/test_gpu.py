"""What a GPU must show, rehearsed on whatever is here: agreement with the CPU, the loop, the speed."""

import json
import sys

from conftest import ROOT, run_command, succeeded
from tinybert_nb.distillation.losses import LOSSES


def test_the_gpu_check_rehearses_all_its_parts(tmp_path):
    said = succeeded(run_command(sys.executable, ROOT / "scripts/gpu_check.py", tmp_path, "--tiny")).stdout
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert all(f"{name}: " in said and part["rows"] and part["error"] is None for name, part in found.items())
    assert len(found) == 8 and found["losses"]["commit"] and found["losses"]["device"]
    same = found["losses"]["rows"]
    assert len(same) == sum(map(len, LOSSES.values())) and all(row["float32 gradient"] < 1e-4 and row["bfloat16 value"] < 0.1 for row in same)
    assert all(row["gradient"] < 1e-3 and row["loss"] < 1e-5 for row in found["updates"]["rows"])
    went_on = {row["what"]: row for row in found["features"]["rows"]}
    assert went_on["accumulation 4"]["weights"] < 1e-4 and went_on["stopped and resumed"]["weights"] < 1e-6


def test_a_part_that_fails_leaves_the_others(tmp_path):
    program = ("import sys; sys.argv = ['x', sys.argv[1], '--tiny', '--parts', 'losses', 'general']; sys.path.insert(0, 'scripts'); "
               "import gpu_check; gpu_check.loss_inputs = None; sys.exit(gpu_check.main())")
    result = run_command(sys.executable, "-c", program, tmp_path)
    assert result.returncode == 1 and "losses: 0 rows" in result.stdout and "FAILED" in result.stdout
    assert json.loads((tmp_path / "losses.json").read_text())["error"].count("TypeError")
    assert json.loads((tmp_path / "general.json").read_text())["error"] is None
