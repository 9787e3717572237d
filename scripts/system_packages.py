"""See that tests find a Chromium, and pictures a font: the machine's, or one that is installed now.

    .venv/bin/python scripts/system_packages.py           # a Chromium
    .venv/bin/python scripts/system_packages.py --font    # and a font with Chinese characters
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


def apt_install(package: str) -> None:
    """Install a package of Debian, where this is Debian and its administrator."""
    if hasattr(os, "geteuid") and os.geteuid() == 0 and which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "-qq", "update"], **quiet)
        subprocess.run(["apt-get", "-qq", "-y", "install", package], **quiet)


def has_chinese_font() -> bool:
    """Whether matplotlib and browsers find a font with Chinese characters."""
    return bool(which("fc-list")) and bool(subprocess.check_output(["fc-list", ":lang=zh"]).strip())


def get_font() -> None:
    """Install a font with Chinese characters if there is none."""
    if not has_chinese_font():
        print("Installing a font with Chinese characters ...", flush=True)
        apt_install("fonts-wqy-microhei")
    if not has_chinese_font():
        print("no font with Chinese characters was found: pictures will show code points instead",
              file=sys.stderr)


def get_chromium() -> None:
    """Install a Chromium if there is none; without success the tests say what to do."""
    ways = (lambda: apt_install("chromium"),
            lambda: subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]))
    for install in ways:
        if find_chromium():
            return
        print("Installing Chromium for the browser tests ...", flush=True)
        install()
    if not find_chromium():
        print(INSTALL, file=sys.stderr)


if __name__ == "__main__":
    if "--font" in sys.argv[1:]:
        get_font()
    get_chromium()
