"""A run folder under real processes: killed, taken up again, shared by two."""

import json
import os
import signal
import time
from pathlib import Path

from conftest import ROOT, command_environment
from forked_commands import Forked, places_of
from tinybert_nb.training.runs import run_once
from tinybert_nb.training.status import run_status

def work_on(out: Path, seconds: float) -> None:
    """Work for so many seconds on a run folder; prints what the run gives."""

    def work():
        out.with_name(f"worked-{os.environ.get('RANK', 0)}").write_text("")
        time.sleep(seconds)
        return {"rank": os.environ.get("RANK", "0")}

    print(json.dumps(run_once(out, {"stage": "sleep"}, work)), flush=True)


def started(out: Path, seconds: float, **variables) -> Forked:
    """A process at that work."""
    return Forked(work_on, (out, seconds), ROOT, command_environment() | variables)


def wait_for(path, process, seconds=120):
    """Wait until a file is there; the process's last words if it ends before."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)


def state(out) -> str:
    """The state of the only run in a folder."""
    (row,) = run_status(out)
    return row["state"]


def test_running_then_killed_then_finished(tmp_path):
    out = tmp_path / "run"
    process = started(out, 600)
    wait_for(tmp_path / "worked-0", process)
    assert state(out) == "running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state(out) == "killed"
    assert run_once(out, {"stage": "sleep"}, lambda: {"rank": "now"}) == {"rank": "now"}
    assert state(out) == "finished"


def test_two_processes_share_the_work_and_one_writes(tmp_path):
    both = [started(tmp_path / "run", 0.5 * rank, **place) for rank, place in enumerate(places_of(2))]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [json.loads(out.splitlines()[-1]) for out, _ in said] == [{"rank": "0"}] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "worked-0", "worked-1"]
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["progress.json", "result.json", "settings.json"]
