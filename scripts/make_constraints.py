"""Write constraints.txt: the installed versions of all that settings.ini asks for.

Run it in the environment whose versions were tested:

    .venv/bin/python scripts/make_constraints.py
"""

from importlib.metadata import PackageNotFoundError, distribution
import platform
import re
import sys

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sources import ROOT, settings

OLDEST_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HEADER = """\
# The exact versions this package is tested with: everything that
#     pip install -c constraints.txt -e '.[notebooks,dev,docs]'
# installs, and nothing else. Made by scripts/make_constraints.py on Python {python}.
# A condition after a version stands where that version needs a newer Python than 3.10.
# torch stands without a build suffix, so each machine takes the build that its index offers.
"""


def asked_for() -> list[Requirement]:
    """The requirements of all four lists in settings.ini."""
    names = ("requirements", "notebooks_requirements", "dev_requirements", "docs_requirements")
    return [Requirement(word) for name in names for word in settings()[name].split()]


def closure(wanted: list[Requirement]) -> dict:
    """Every installed distribution that `wanted` leads to, by canonical name."""
    found, seen, queue = {}, set(), list(wanted)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError as error:
                raise SystemExit(
                    f"{name} is required but not installed: install the package first."
                ) from error
            for line in found[name].requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    queue.append(needed)
    return found


def line_for(installed) -> str:
    """One pinned version, with a condition where it does not install on the oldest Python."""
    pin = f"{installed.metadata['Name']}=={re.sub(r'[+].*$', '', installed.version)}"
    allowed = SpecifierSet(installed.metadata.get("Requires-Python") or "")
    first = next(python for python in OLDEST_PYTHONS if allowed.contains(f"{python}.99"))
    if not allowed.contains(f"{first}.0"):  # of this Python only the later releases
        least = next(each.version for each in allowed if each.operator == ">=")
        return f'{pin} ; python_full_version >= "{least}"'
    return pin if first == OLDEST_PYTHONS[0] else f'{pin} ; python_version >= "{first}"'


def main() -> None:
    """Write the file and say how many versions it holds."""
    lines = sorted((line_for(item) for item in closure(asked_for()).values()), key=str.lower)
    text = HEADER.format(python=platform.python_version()) + "\n".join(lines) + "\n"
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8")
    print(f"constraints.txt: {len(lines)} versions")


if __name__ == "__main__":
    sys.exit(main())
