"""See that the browser tests find a Chromium: the machine's, or one that is installed now.

    .venv/bin/python scripts/get_chromium.py
"""

from contextlib import contextmanager
from pathlib import Path
from shutil import which
import os
import subprocess
import sys

from playwright.sync_api import sync_playwright

INSTALL = (
    "no Chromium was found: as root on Debian `apt-get install chromium`, elsewhere "
    f"`{sys.executable} -m playwright install chromium`"
)


def find_chromium() -> str | None:
    """The path of the machine's own Chromium, else of Playwright's; None if there is neither."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(which, names)), None)
    if found is None:
        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
        found = own if Path(own).is_file() else None
    return found


@contextmanager
def chromium():
    """A Chromium at work, ended afterwards; RuntimeError where there is none."""
    found = find_chromium()
    if found is None:
        raise RuntimeError(INSTALL)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def main() -> None:
    """Install one if there is none; without success the tests say what to do."""
    if find_chromium():
        return
    print("Installing Chromium for the browser tests ...", flush=True)
    if hasattr(os, "geteuid") and os.geteuid() == 0 and which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "-qq", "update"], **quiet)
        subprocess.run(["apt-get", "-qq", "-y", "install", "chromium"], **quiet)
    if not find_chromium():
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])
    if not find_chromium():
        print(INSTALL, file=sys.stderr)


if __name__ == "__main__":
    main()
