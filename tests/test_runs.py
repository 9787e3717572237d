"""A run folder under real processes: killed, taken up again, shared by two."""

import json
import os
import socket
import subprocess
import sys
import time

from conftest import ROOT
from tinybert_nb.training.runs import run_once
from tinybert_nb.training.status import run_status

WORK = """
import json, os, sys, time
from pathlib import Path
from tinybert_nb.training.runs import run_once
out, seconds = Path(sys.argv[1]), float(sys.argv[2])
def work():
    out.with_name(f"worked-{os.environ.get('RANK', 0)}").write_text("")
    time.sleep(seconds)
    return {"rank": os.environ.get("RANK", "0")}
print(json.dumps(run_once(out, {"stage": "sleep"}, work)))
"""


def started(out, seconds, **variables) -> subprocess.Popen:
    """A process that works for so many seconds on a run folder."""
    return subprocess.Popen(
        [sys.executable, "-c", WORK, out, str(seconds)],
        env=os.environ | variables,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process, seconds=120):
    """Wait until a file is there; the process's last words if it ends before."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.05)


def state(out) -> str:
    """The state of the only run in a folder."""
    (row,) = run_status(out)
    return row["state"]


def test_running_then_killed_then_finished(tmp_path):
    out = tmp_path / "run"
    process = started(out, 600)
    wait_for(tmp_path / "worked-0", process)
    assert state(out) == "running"
    process.kill()
    process.communicate()
    assert state(out) == "killed"
    assert run_once(out, {"stage": "sleep"}, lambda: {"rank": "now"}) == {"rank": "now"}
    assert state(out) == "finished"


def test_two_processes_share_the_work_and_one_writes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [
        started(
            tmp_path / "run",
            0.5 * rank,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [json.loads(out.splitlines()[-1]) for out, _ in said] == [{"rank": "0"}] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "worked-0", "worked-1"]
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["progress.json", "result.json", "settings.json"]
