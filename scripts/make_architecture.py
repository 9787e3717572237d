"""Write ARCHITECTURE.md: the wings, drawn from the imports of the modules.

    .venv/bin/python scripts/make_architecture.py
"""

from pathlib import Path
import ast
import re

from sources import ROOT, absolute_imports, all_modules

PAGE = ROOT / "ARCHITECTURE.md"
INTRODUCTION = """\
<!-- Made by `make export` from the imports of the modules; change scripts/make_architecture.py. -->

# Architecture

Twelve wings, one direction. A module imports only from wings before its own, and inside its wing
only from rooms with a smaller number; a test holds it to that. A room is one notebook,
`nbs/<nn>_<wing>/<nn>_<room>.ipynb`, which exports one module, `tinybert_nb.<wing>.<room>`.

An arrow leads from a wing to the nearest wings that it imports from; what follows from two arrows
is not drawn.

"""
RULES = """\
## Where things belong

* `files` is the only place that replaces a file, and that writes to the terminal.
* `data` knows files and tokens, `models` knows one model, `distillation` knows two traces: losses
  know no model, the trace knows no loss.
* `training` is handed a step (a batch in, named loss terms out) and drives every stage with it; it
  knows no task.
* `recipes` put these together: they take files and names, and leave run folders behind.
* `deployment` takes a finished checkpoint, makes it smaller or writes it for other runtimes, and
  trains nothing.
* `analysis` and `studies` read what recipes have left. Pictures and widgets are imported from
  `analysis` on; everything before runs without them.
* `cli` turns words into calls and has no logic of its own.
* `nbs/walkthroughs/` and `nbs/exercises/` are opened by people. They export no module, and nothing
  imports from them.
"""


def wings() -> dict[str, str]:
    """Each wing, in order, and the folder of its notebooks."""
    folders = sorted(path.name for path in (ROOT / "nbs").iterdir()
                     if re.match(r"\d\d_", path.name) and path.is_dir())
    return {name[3:]: name for name in folders}


def rooms(folder: str) -> list[str]:
    """The rooms of a wing, in order, each with its number."""
    return sorted(path.stem for path in (ROOT / "nbs" / folder).glob("[0-9][0-9]_*.ipynb"))


def imports_of_wings() -> dict[str, set[str]]:
    """The wings that each wing imports from."""
    known, found = wings(), {name: set() for name in wings()}
    for module, path in all_modules().items():
        wing = module.partition(".")[0]
        source = absolute_imports(path.read_text(encoding="utf-8"), module)
        found.get(wing, set()).update(
            set(re.findall(r"\bfrom tinybert_nb\.([a-z_]+)", source)) & {*known} - {wing})
    return found


def nearest(imports: dict[str, set[str]]) -> dict[str, list[str]]:
    """The imports without those that follow from others."""
    reached = {}
    for wing in wings():  # in order, so all that it imports are known
        reached[wing] = imports[wing].union(*(reached[other] for other in imports[wing]))
    return {wing: sorted((other for other in others if not any(
        other in reached[between] for between in others - {other})), key=[*wings()].index)
        for wing, others in imports.items()}


def title_of(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split())


def render() -> str:
    """The page."""
    lines = ["```mermaid", "flowchart BT"]
    for wing, others in nearest(imports_of_wings()).items():
        lines += [f"    {wing}[{wing}]"] + [f"    {wing} --> {other}" for other in others]
    parts = [INTRODUCTION, "\n".join([*lines, "```", "", ""]), RULES]
    modules = all_modules()
    for wing, folder in wings().items():
        parts.append(f"\n## {wing}\n\n| room | what it does |\n|---|---|\n" + "".join(
            f"| [{room[3:]}](nbs/{folder}/{room}.ipynb) | "
            f"{title_of(modules[f'{wing}.{room[3:]}']).replace('|', '&#124;')} |\n"
            for room in rooms(folder)))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
