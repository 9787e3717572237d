"""What the sources of the project say: settings, notebooks, directives, modules, links."""

from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
import re

ROOT = Path(__file__).resolve().parent.parent
UNTESTED = {"slow", "gpu", "network"}  # nbdev_test leaves out a cell with such a directive
UNSEEN = {"hide", "default_exp"}  # and a page one with such a directive
EXPORTED = {"export", "exporti"}
FENCE = re.compile(r"(^[ \t]*(`{3,}|~{3,}).*?^[ \t]*\2[ \t]*$)", re.MULTILINE | re.DOTALL)
INLINE = re.compile(
    r"(?P<heading>^\#.*$)"
    r"|(?P<label>!?\[(?:`[^`]*`|[^]`])*\])\((?P<target>[^)\s]+)\)"
    r"|(?P<attribute>\b(?:src|href)=[\"'])(?P<address>[^\"'#][^\"']*)"
    r"|(?P<ticks>`+)(?P<code>.+?)(?P=ticks)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)  # how a link to another host begins


def settings() -> dict[str, str]:
    """The settings of settings.ini."""
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


# Notebooks ------------------------------------------------------------------------------------


def all_notebooks() -> list[Path]:
    """Every notebook under nbs/, whatever its name: nbdev's own rules leave some out."""
    found = (ROOT / "nbs").rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def directives(source: str) -> tuple[set[str], str]:
    """The nbdev directives that a cell begins with, and the rest of it."""
    found = re.match(r"(?:[ \t]*#[ \t]*\|[^\n]*(?:\n|\Z)|[ \t]*\n)*", source)
    return set(re.findall(r"#[ \t]*\|[ \t]*([\w-]+)", found[0])), source[found.end():]


# Modules --------------------------------------------------------------------------------------


def all_modules() -> dict[str, Path]:
    """Every module of the package, `wing.room` -> its file."""
    package = ROOT / "tinybert_nb"
    return {".".join(path.relative_to(package).with_suffix("").parts): path
            for path in sorted(package.rglob("*.py")) if path.stem != "_modidx"}


def modules_in(source: str, known: dict[str, Path]) -> set[str]:
    """The modules of this package that a text names: imports, and dotted names in strings.

    A text that runs the command, or imports from the package as a whole, names all."""
    if re.search(r"^\s*!.*\btinybert-nb\b|[\"'/]tinybert-nb[\"']|\bfrom tinybert_nb import",
                 source, re.MULTILINE):
        return {*known}
    named = re.findall(r"\btinybert_nb\.([a-z_]+(?:\.[a-z_]+)?)", source)
    return {module for name in named for module in known
            if module == name or module.startswith(f"{name}.")}


def absolute_imports(source: str, module: str) -> str:
    """A module's source with its relative imports written out."""
    wing = module.rpartition(".")[0]
    source = re.sub(r"\bfrom \.\.(?=[a-z])", "from tinybert_nb.", source)
    return re.sub(r"\bfrom \.(?=[a-z])", f"from tinybert_nb.{wing}.", source)


# Markdown -------------------------------------------------------------------------------------


def rewritten(markdown: str, link: Callable[[str], str | None],
              code: Callable[[str], str] = lambda said: said,
              fence: Callable[[str], str] = lambda block: block) -> str:
    """Markdown with other targets of its links; headings remain as they are.

    `link(target)` is the new target, None to leave the label only; `code(text with its ticks)` and
    `fence(block)` return what stands in the place of inline code and of fenced blocks."""
    def replaced(match: re.Match) -> str:
        if match["heading"]:
            return match[0]
        if match["code"]:
            return code(match[0])
        goal = link(match["target"] or match["address"])
        if match["attribute"]:
            return match["attribute"] + (goal or match["address"])
        return f"{match['label']}({goal})" if goal else match["label"][1:-1]

    parts = FENCE.split(markdown)  # text, fenced block, its fence, text, ...
    texts = [INLINE.sub(replaced, part) for part in parts[0::3]]
    blocks = [fence(part) for part in parts[1::3]] + [""]
    return "".join(text + block for text, block in zip(texts, blocks))
