"""Make the site of the book: each notebook as a page, and the API reference, in _docs/.

    .venv/bin/python scripts/make_docs.py

Nothing is executed: a page shows the outputs that its notebook is committed with. The script writes
what Sphinx reads into build/docs/source/ (the notebooks and pages that are found, with their links
rewritten; a page for each wing and each module) and calls Sphinx, for which a warning is an error.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote
import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys

import attention_page
from api_pages import all_symbols, api_pages, names_of, unambiguous
from make_architecture import rooms, wings
from sources import (
    ELSEWHERE, EXPORTED, ROOT, UNSEEN, all_notebooks, directives, rewritten, settings)

SOURCE = ROOT / "build" / "docs" / "source"
STATIC = SOURCE / "_static"
DOCTREES = ROOT / "build" / "docs" / "doctrees"
HTML = ROOT / "build" / "docs" / "html"  # beside it myst-nb leaves a copy of each notebook
SITE_FILES = Path(__file__).resolve().parent / "docs"  # settings, style, icon
PROJECT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
SHOWN = ("text/html", "image/svg+xml", "image/png", "text/markdown", "text/latex", "text/plain")


# What there is --------------------------------------------------------------------------------


@cache
def pages() -> dict[Path, str]:
    """Each file that becomes a page -> the page's file below SOURCE."""
    nbs = ROOT / "nbs"
    found = {path: path.relative_to(nbs).as_posix() for path in all_notebooks()}
    found |= {path: path.relative_to(nbs).as_posix() for path in sorted(nbs.rglob("*.md"))}
    found |= {ROOT / name: name for name in PROJECT_PAGES if (ROOT / name).is_file()}
    return found | {ROOT / "README.md": "index.ipynb"}


def code_host() -> str | None:
    """The address of the repository where it is on a code host, else None."""
    address = settings()["git_url"].rstrip("/")
    host = address.partition("://")[2].partition("/")[0]
    return address if host in ("github.com", "gitlab.com", "codeberg.org") else None


def title_and_quote(notebook: Path) -> tuple[str, str]:
    """The title of a notebook and the line below it, from its first cell."""
    text = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    title, quote = re.search(r"^# (.+)$", text, re.M), re.search(r"^> (.+)$", text, re.M)
    return title[1] if title else notebook.stem, quote[1] if quote else ""


# Markdown -------------------------------------------------------------------------------------


def slug(anchor: str) -> str:
    """The anchor of a section as the site writes it, from JupyterLab's or a code host's."""
    return re.sub(r"[^\w-]", "", unquote(anchor).lower())


def moved(target: str, path: Path, page: str) -> str | None:
    """Where a link of `path` leads from `page`; None: its goal is not on the site."""
    if ELSEWHERE.match(target):
        return target
    name, mark, anchor = target.partition("#")
    goal = (path.parent / unquote(name)).resolve() if name else path
    anchor = mark + slug(anchor) if mark else ""
    if goal in pages():
        return os.path.relpath(pages()[goal], Path(page).parent) + anchor if name else anchor
    if goal.is_dir() and goal.parent == ROOT / "nbs" and goal.name in wings().values():
        return os.path.relpath(f"{goal.name}/index.md", Path(page).parent)
    if goal.is_file() and goal.is_relative_to(ROOT / "nbs"):
        copied = goal.relative_to(ROOT / "nbs").as_posix()
        (SOURCE / copied).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(goal, SOURCE / copied)
        return os.path.relpath(copied, Path(page).parent)
    if code_host() and goal.is_relative_to(ROOT):
        place = goal.relative_to(ROOT).as_posix()
        return f"{code_host()}/blob/{settings()['branch']}/{place}{anchor}"
    return None


def with_links(markdown: str, path: Path, page: str) -> str:
    """Markdown of `path` for `page`: links lead to pages, public names to the API reference."""
    names = unambiguous()

    def linked(code: str) -> str:
        said = code.strip("`").strip()
        symbol = names.get(said.removesuffix("()"))
        return f"{{py:obj}}`{said} <{symbol}>`" if symbol else code

    return rewritten(markdown, lambda target: moved(target, path, page), linked, drawn)


def drawn(fence: str) -> str:
    """A fenced block; a mermaid flow chart of wings becomes a picture that needs no script."""
    if not fence.startswith("```mermaid"):
        return fence
    names = re.findall(r"^\s*(\w+)\[", fence, re.M)
    arrows = re.findall(r"^\s*(\w+) --> (\w+)", fence, re.M)
    height = {name: 46 * (len(names) - place) - 31 for place, name in enumerate(names)}
    lines = []
    for start, end in arrows:
        top, bottom = height[start], height[end]
        bulge = 0 if bottom - top == 46 else 10 + (bottom - top) / 3
        side = f"C {170 + bulge} {top + 15}, {170 + bulge} {bottom + 15}, 172 {bottom + 15}"
        way = f"M 95 {top + 30} L 95 {bottom - 3}" if not bulge else f"M 170 {top + 15} {side}"
        lines.append(f'<path d="{way}" marker-end="url(#tip)"/>')
    boxes = [f'<rect x="20" y="{top}" width="150" height="30" rx="4"/>'
             f'<text x="95" y="{top + 20}">{name}</text>' for name, top in height.items()]
    said = "; ".join(f"{start} imports from {end}" for start, end in arrows)
    return (f'<svg class="wings" viewBox="0 0 340 {46 * len(names) + 2}" role="img" '
            f'aria-label="{said}"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto"><path d="M 0 0 L 8 4 L 0 8 z"/>'
            f'</marker></defs>{"".join(lines + boxes)}</svg>')


# Notebooks ------------------------------------------------------------------------------------


def description(source: str, before: str) -> str:
    """What a picture shows: the title that the cell gives it, else what the text before it says."""
    titles = re.findall(r"\b(?:title=|set_title\(|suptitle\()f?\"([^\"{}]+)\"", source)
    if titles:
        return "; ".join(titles)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*#>$]", r"\1", before.strip().split("\n\n")[-1])
    text = " ".join(text.split())
    return f"Output of the code above. {text}"[:300].strip()


def defined_names(source: str) -> list[str]:
    """The names that a cell defines; the private ones only where there is no other."""
    names = [name for node in ast.parse(source).body for name in names_of(node)]
    return [name for name in names if name[0] != "_"] or names


def shown_output(output: dict, alternative: str) -> dict | None:
    """An output with the one form of it that a page shows; None where it shows nothing."""
    if output["output_type"] not in ("display_data", "execute_result"):
        return output
    data = output["data"]
    kind = next((kind for kind in SHOWN if kind in data), None)
    if kind is None or any("widget-view" in kind for kind in data):
        return None  # of a widget, whose still picture follows
    content = data[kind]
    if kind == "text/html":
        content = re.sub(r"<img(?![^>]*\salt=)", f'<img alt="{alternative}"', "".join(content))
    if kind == "text/markdown":
        content = "".join(content).replace("![](", f"![{alternative}](")
    return {**output, "data": {kind: content}}


def code_cell(cell: dict, before: str) -> dict | None:
    """A code cell as a page shows it, an exported one folded; None where it is left out."""
    words, source = directives("".join(cell["source"]))
    if UNSEEN & words or not source.strip():
        return None
    alternative = re.sub(r'["<>\[\]]', "", description(source, before))
    outputs = [shown_output(output, alternative) for output in cell["outputs"]]
    metadata = {"mystnb": {"image": {"alt": alternative}}}
    if EXPORTED & words:
        names = ", ".join(defined_names(source)) or "imports"
        metadata["tags"] = ["hide-input"]
        metadata["mystnb"] |= {"code_prompt_show": f"Show the code: {names}",
                               "code_prompt_hide": f"Hide the code: {names}"}
    return {**cell, "source": source, "metadata": metadata, "execution_count": None,
            "outputs": [output for output in outputs if output]}


def how_to_run(path: Path) -> str:
    """How a reader runs this notebook."""
    place = path.relative_to(ROOT).as_posix()
    text = f"To run this notebook, `make lab` and open `{place}`"
    if (code_host() or "").startswith("https://github.com/"):
        address = f"{code_host()[len('https://'):]}/blob/{settings()['branch']}/{place}"
        colab = f"https://colab.research.google.com/{address.replace('.com', '', 1)}"
        text += f", or [open it in Colab]({colab}) after `pip install tinybert_nb[notebooks]`"
    return f":::{{container}} how-to-run\n{text}.\n:::"


def notebook_page(path: Path) -> str:
    """The notebook that Sphinx reads, as text."""
    page, cells, before = pages()[path], [], ""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            before = "".join(cell["source"])
            cells.append({**cell, "source": with_links(before, path, page)})
        elif shown := code_cell(cell, before):
            if "tags" in shown["metadata"]:
                label = cell_label(page, cell["id"])
                cells.append(markdown_cell(f"at-{cell['id']}", f"({label})="))
            cells.append(shown)
        if number == 0 and page != "index.ipynb":
            cells.append(markdown_cell("how-to-run", how_to_run(path)))
    if page == "index.ipynb":
        cells.append(markdown_cell("contents", contents()))
    return json.dumps({**notebook, "cells": cells}, ensure_ascii=False)


def markdown_cell(name: str, text: str) -> dict:
    """A cell that the notebook itself does not have."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def cell_label(page: str, cell: str) -> str:
    """The name by which the API reference links to an exported cell."""
    return f"cell-{Path(page).with_suffix('').as_posix().replace('/', '-')}-{cell}".lower()


# The site -------------------------------------------------------------------------------------


def toctree(names: list[str], caption: str = "") -> str:
    """A hidden table of contents, which makes the navigation."""
    head = f":caption: {caption}\n" if caption else ""
    return f"```{{toctree}}\n:hidden:\n{head}\n" + "\n".join(names) + "\n```\n"


def contents() -> str:
    """The tables of contents of the whole site, in the order of reading."""
    def listed(folder):
        return sorted(page for page in pages().values() if page.startswith(f"{folder}/"))

    loose = sorted(page for page in pages().values() if page.endswith(".md") and "/" not in page
                   and page not in PROJECT_PAGES)
    known = {"walkthroughs", "exercises", *wings().values(), "data"}
    other = sorted(page for page in pages().values() if "/" in page and page.split("/")[0] not in known)
    groups = {
        "Walkthroughs": [*listed("walkthroughs"), "attention.md"],
        "Exercises": listed("exercises"),
        "The package, wing by wing": [f"{folder}/index.md" for folder in wings().values()],
        "Reference": loose + other + ["api/index.md"],
        "Project": [name for name in PROJECT_PAGES if ROOT / name in pages()],
    }
    return "\n".join(toctree(names, caption) for caption, names in groups.items() if names)


def wing_pages() -> dict[str, str]:
    """A page for each wing: what its notebooks are about."""
    found = {}
    for wing, folder in wings().items():
        rows = [(room, *title_and_quote(ROOT / "nbs" / folder / f"{room}.ipynb"))
                for room in rooms(folder)]
        table = "".join(f"| [{title}]({room}.ipynb) | {quote} |\n" for room, title, quote in rows)
        found[f"{folder}/index.md"] = (
            f"# {wing}\n\nEach of these {len(rows)} notebooks exports one module of "
            f"[`tinybert_nb.{wing}`](../api/{wing}.md) and imports only from the wings before this "
            f"one and from the notebooks above its own.\n\n| notebook | what it does |\n|---|---|\n"
            f"{table}\n{toctree([f'{room}.ipynb' for room, *_ in rows])}")
    return found


def write_source() -> None:
    """Fill SOURCE with all that Sphinx reads."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    written = {page: notebook_page(path) if path.suffix == ".ipynb"
               else with_links(path.read_text(encoding="utf-8"), path, page)
               for path, page in pages().items() if path.name != "README.md" or page != "index.ipynb"}
    notebooks = {path.relative_to(ROOT).as_posix(): page for path, page in pages().items()}
    written |= wing_pages()
    written |= api_pages(lambda name, cell: f"#{cell_label(notebooks[name], cell)}",
                         lambda text, page: with_links(text, ROOT / "nbs" / page, page), toctree)
    STATIC.mkdir(parents=True)
    around = (SITE_FILES / "attention.md").read_text(encoding="utf-8")
    written["attention.md"] = with_links(around, ROOT / "nbs/attention.md", "attention.md")
    attention_page.write_page(STATIC / "explore.html")
    for page, text in written.items():
        (SOURCE / page).parent.mkdir(parents=True, exist_ok=True)
        (SOURCE / page).write_text(text, encoding="utf-8")
    shutil.copy2(SITE_FILES / "site.css", STATIC)
    [mathjax] = find_spec("sphinx-mathjax-offline").submodule_search_locations
    shutil.copy2(Path(mathjax) / "static" / "mathjax" / "tex-svg.js", STATIC)


def main() -> int:
    """Make the site; the exit status of Sphinx."""
    parser = argparse.ArgumentParser(description="the site of the book")
    parser.add_argument("--out", type=Path, default=ROOT / settings()["doc_path"])
    out = parser.parse_args().out
    write_source()
    shutil.rmtree(HTML, ignore_errors=True)
    known = settings()
    facts = {"project": known["title"], "html_title": known["title"], "author": known["author"],
             "copyright": known["copyright"], "version": known["version"], "release": known["version"]}
    status = subprocess.run([
        sys.executable, "-m", "sphinx", "-W", "--keep-going", "-E", "-q", "-j", "auto", "-b", "html",
        "-c", str(SITE_FILES), "-d", str(DOCTREES), str(SOURCE), str(HTML),
        *(f"-D{name}={fact}" for name, fact in facts.items()),
        f"-Dhtml_static_path={STATIC}"]).returncode
    if status == 0:
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(HTML, out)
        print(f"{out}: {len(list(out.rglob('*.html')))} pages, {len(all_symbols())} public names; "
              f"open {out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
