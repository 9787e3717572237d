"""Make README.md from nbs/index.ipynb, or say whether it is fresh.

    .venv/bin/python scripts/make_readme.py            # write README.md
    .venv/bin/python scripts/make_readme.py --check    # exit 1 where it is not fresh

Nothing is executed: the outputs saved in the notebook are what the README shows.
"""

from pathlib import Path
import argparse
import re
import sys

from nbconvert import MarkdownExporter
import nbformat

from sources import ELSEWHERE, ROOT, UNSEEN, directives, rewritten

INDEX = ROOT / "nbs" / "index.ipynb"
README = ROOT / "README.md"
NOTE = "<!-- Made from nbs/index.ipynb by `make export`; change that notebook, not this file. -->"


def from_root(target: str, folder: str) -> str:
    """The target of a link written in a notebook of `folder`, as seen from the repository's root."""
    if ELSEWHERE.match(target) or target[0] in "#/":
        return target
    return target[3:] if target.startswith("../") else f"{folder}/{target.removeprefix('./')}"


def render(index_path) -> str:
    """The README's text; `ValueError` where an output holds a picture."""
    notebook = nbformat.read(index_path, as_version=4)
    kept = []
    for cell in notebook.cells:
        words, source = directives(cell.source)
        if UNSEEN & words:
            continue
        if cell.cell_type == "code":
            cell.source = source.strip("\n")
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        kept.append(cell)
    notebook.cells = kept
    notebook.metadata["language_info"] = {"name": "python"}
    markdown, resources = MarkdownExporter().from_notebook_node(notebook)
    if resources.get("outputs"):
        raise ValueError(
            f"{index_path}: an output holds a picture; save it in nbs/images and show that file."
        )
    folder = Path(index_path).resolve().parent.name
    markdown = rewritten(markdown, lambda target: from_root(target, folder))
    lines = [line.rstrip() for line in markdown.split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return f"{NOTE}\n\n{text}\n"


def main() -> int:
    """Write README.md, or with --check compare it; 0 where all is well."""
    parser = argparse.ArgumentParser(description="README.md from nbs/index.ipynb")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is not fresh"
    )
    checking = parser.parse_args().check
    if not INDEX.exists():
        print(
            f"{INDEX.relative_to(ROOT)} is not there: the README is made from it.", file=sys.stderr
        )
        return 1
    text = render(INDEX)
    if not checking:
        README.write_text(text, encoding="utf-8")
        return 0
    if README.exists() and README.read_text(encoding="utf-8") == text:
        return 0
    print(
        "README.md is not what nbs/index.ipynb says now. Run `make export` and commit it.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
