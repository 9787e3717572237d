"""The pages of the API reference, from the signatures and comments of the modules; none is imported."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
import ast
import re
import tokenize

from make_architecture import rooms, wings
from sources import ROOT, all_modules

PACKAGE = "tinybert_nb"
Function = ast.FunctionDef | ast.AsyncFunctionDef
HEADER = "| {kind} | type | default | meaning |\n|---|---|---|---|\n"


@dataclass
class Symbol:
    """A public name of a module."""

    name: str
    module: str  # wing.room
    node: ast.stmt
    notebook: str  # where it is defined, from the repository's root
    cell: str  # id of its cell
    source: str  # of the module
    comments: dict[int, str] = field(repr=False)  # line of the module -> its comment

    @property
    def full_name(self) -> str:
        return f"{PACKAGE}.{self.module}.{self.name}"


# Reading --------------------------------------------------------------------------------------


def comments_of(source: str) -> dict[int, str]:
    """Each line's comment, without its mark."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens
            if token.type == tokenize.COMMENT}


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    single = [each for target in targets for each in getattr(target, "elts", [target])]  # a, b = ...
    return [target.id for target in single if isinstance(target, ast.Name)]


@cache
def symbols_of(module: str) -> tuple[Symbol, ...]:
    """The public names of a module (those in `__all__`), in their order."""
    source = all_modules()[module].read_text(encoding="utf-8")
    cells = [(source[:match.start()].count("\n") + 1, match[1], match[2]) for match in
             re.finditer(r"^# %% (?:\.\./)*(\S+\.ipynb) #(\w+)", source, re.M)]
    tree, comments = ast.parse(source), comments_of(source)
    public = next((ast.literal_eval(node.value) for node in tree.body
                   if names_of(node) == ["__all__"]), [])
    found = []
    for node in tree.body:
        for name in names_of(node):
            before = [(notebook, cell) for line, notebook, cell in cells if line < node.lineno]
            if name in public and before and name not in [symbol.name for symbol in found]:
                found.append(Symbol(name, module, node, *before[-1], source, comments))
    return tuple(found)


def all_symbols() -> list[Symbol]:
    """The public names of all modules, in the order of the wings."""
    modules = [f"{wing}.{room[3:]}" for wing, folder in wings().items() for room in rooms(folder)]
    return [symbol for module in modules for symbol in symbols_of(module)]


@cache
def unambiguous() -> dict[str, str]:
    """Name -> full name, for each name that stands for one thing wherever it is written.

    Left out are names that several modules define, and those of a command, a module or an argument.
    """
    symbols = all_symbols()
    counts = Counter(symbol.name for symbol in symbols)
    commands = next(symbol for symbol in symbols if symbol.name == "COMMANDS")
    taken = set(ast.literal_eval(commands.node.value))
    taken |= {part for module in all_modules() for part in module.split(".")}
    for module in all_modules().values():
        tree = ast.parse(module.read_text(encoding="utf-8"))
        taken |= {node.arg for node in ast.walk(tree) if isinstance(node, (ast.arg, ast.keyword))}
    return {symbol.name: symbol.full_name for symbol in symbols
            if counts[symbol.name] == 1 and symbol.name not in taken}


# Writing --------------------------------------------------------------------------------------


def in_table(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def code(text: str | None) -> str:
    """Source in a cell of a table."""
    return in_table(f"`{' '.join(text.split())}`") if text else ""


def table(kind: str, rows: list[tuple[str, ast.expr | None, ast.expr | None, str]]) -> str:
    """Parameters or fields: name, annotation, default, comment."""
    if not rows:
        return ""
    lines = [f"| `{name}` | {code(annotation and ast.unparse(annotation))} | "
             f"{code(default and ast.unparse(default))} | {in_table(comment)} |\n"
             for name, annotation, default, comment in rows]
    return HEADER.format(kind=kind) + "".join(lines) + "\n"


def parameters(node: Function, comments: dict[int, str], method: bool) -> list[tuple]:
    """The parameters of a function; a comment belongs to the last one that ends on its line."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
    found = list(zip(plain, defaults))[bool(method and not static):]
    found += [(args.vararg, None)] * bool(args.vararg)
    found += [*zip(args.kwonlyargs, args.kw_defaults)]
    found += [(args.kwarg, None)] * bool(args.kwarg)
    stars = {id(args.vararg): "*", id(args.kwarg): "**"}
    lines = {(default or arg).end_lineno: arg for arg, default in found}
    alone = len(found) == 1 and node.lineno == (node.returns or found[0][0]).end_lineno
    header_ends = node.returns.end_lineno if node.returns and not alone else 0
    return [(stars.get(id(arg), "") + arg.arg, arg.annotation, default,
             comments.get(line, "") if (line := (default or arg).end_lineno) != header_ends
             and lines[line] is arg else "") for arg, default in found]


def result(node: Function, comments: dict[int, str], method: bool) -> str:
    """What a function returns: annotation and comment."""
    if node.returns is None or ast.unparse(node.returns) == "None":
        return ""
    count = len(parameters(node, comments, method))
    alone = count == 1 and node.lineno == node.returns.end_lineno  # then it is the parameter's
    comment = "" if alone else comments.get(node.returns.end_lineno, "")
    return f"Returns `{ast.unparse(node.returns)}`{': ' * bool(comment)}{comment}\n\n"


def signature(node: Function, method: bool) -> str:
    """The arguments in parentheses and the result."""
    static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
    written = ast.unparse(node.args)
    if method and not static:
        written = re.sub(r"^(?:self|cls)(?:, (?:/, )?|$)", "", written)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({written}){returns}"


def function_text(node: Function, comments: dict[int, str], method: bool = False) -> str:
    """Docstring, parameters, result."""
    docstring = " ".join((ast.get_docstring(node) or "").split())
    return (f"{docstring}\n\n{table('parameter', parameters(node, comments, method))}"
            f"{result(node, comments, method)}")


def directive(kind: str, head: str, body: str, fence: str, *options: str) -> str:
    """A description of Sphinx's Python domain."""
    lines = "".join(f"{option}\n" for option in options)
    return f"{fence}{{py:{kind}}} {head}\n{lines}\n{body.strip()}\n{fence}\n\n"


def class_text(symbol: Symbol) -> tuple[str, str]:
    """Of a class: the arguments that make one, and its text with fields and methods."""
    node, comments = symbol.node, symbol.comments
    bases = [f"`{ast.unparse(base)}`" for base in node.bases]
    fields = [(each.target.id, each.annotation, each.value, comments.get(each.end_lineno, ""))
              for each in node.body if isinstance(each, ast.AnnAssign)
              and isinstance(each.target, ast.Name) and each.target.id[0] != "_"]
    text = " ".join((ast.get_docstring(node) or "").split()) + "\n\n"
    text += f"Extends {', '.join(bases)}.\n\n" if bases else ""
    text += table("field", fields)
    arguments = ""
    for each in node.body:
        if not isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if each.name == "__init__":
            arguments = signature(each, True).removesuffix(" -> None")
            text += table("parameter", parameters(each, comments, True))
        elif each.name[0] != "_" or each.name == "__call__":
            written = {ast.unparse(decorator).split(".")[-1] for decorator in each.decorator_list}
            if "setter" in written:
                continue
            is_property = bool(written & {"property", "cached_property"})
            head = each.name if is_property else each.name + signature(each, True)
            text += directive("property" if is_property else "method", head,
                              function_text(each, comments, True), "````")
    return arguments, text


def symbol_text(symbol: Symbol, cell_link: Callable[[str, str], str]) -> str:
    """The entry of one public name."""
    node = symbol.node
    if isinstance(node, ast.ClassDef):
        arguments, text = class_text(symbol)
        kind, head = "class", symbol.name + arguments
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        kind, head = "function", symbol.name + signature(node, False)
        text = function_text(node, symbol.comments)
    else:
        kind, head = "data", symbol.name
        source = ast.get_source_segment(symbol.source, node).splitlines()
        shown = "\n".join(source[:12] + ["..."] * (len(source) > 12))
        text = f"```python\n{shown}\n```\n\n"
    where = f"[{symbol.notebook}]({cell_link(symbol.notebook, symbol.cell)})"
    return directive(kind, head, f"{text}Defined in {where}.", "`````")


def docstring_of(module: str) -> str:
    """What a module says that it does."""
    tree = ast.parse(all_modules()[module].read_text(encoding="utf-8"))
    return " ".join((ast.get_docstring(tree) or "").split())


def public_face() -> dict[str, str]:
    """The names that `import tinybert_nb` gives -> their full names."""
    tree = ast.parse((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    found = next(node.value for node in tree.body if names_of(node) == ["_PUBLIC"])
    return {name: place.replace(":", ".") for name, place in ast.literal_eval(found).items()}


def index_page(toctree: Callable[[list[str]], str]) -> str:
    """The first page of the reference."""
    meanings = {symbol.full_name: " ".join((ast.get_docstring(symbol.node) or "").split())
                for symbol in all_symbols() if isinstance(symbol.node, (ast.ClassDef, Function))}
    rows = "".join(f"| {{py:obj}}`{name} <{full}>` | {in_table(meanings[full])} |\n"
                   for name, full in public_face().items())
    listed = "".join(f"* [{PACKAGE}.{wing}]({wing}.md)\n" for wing in wings())
    return (f"# API reference\n\nMade from the signatures, docstrings and comments of the modules. "
            f"`import {PACKAGE}` gives these names; all others are imported from their modules.\n\n"
            f"| name | what it does |\n|---|---|\n{rows}\n## Wings\n\n{listed}\n"
            f"{toctree([f'{wing}.md' for wing in wings()])}")


def api_pages(
    cell_link: Callable[[str, str], str],  # notebook, cell -> the target of a link
    linked: Callable[[str, str], str],  # Markdown, page -> the same with links to public names
    toctree: Callable[[list[str]], str],  # pages -> a hidden table of contents
) -> dict[str, str]:
    """Page -> its Markdown: an index, a page for each wing and one for each module."""
    found = {"api/index.md": index_page(toctree)}
    for wing, folder in wings().items():
        modules = [f"{wing}.{room[3:]}" for room in rooms(folder)]
        rows = "".join(f"| [{module}]({module}.md) | {in_table(docstring_of(module))} |\n"
                       for module in modules)
        page = f"api/{wing}.md"
        found[page] = linked(f"# {PACKAGE}.{wing}\n\n| module | what it does |\n|---|---|\n{rows}\n",
                             page) + toctree([f"{module}.md" for module in modules])
        for module in modules:
            entries = "".join(symbol_text(symbol, cell_link) for symbol in symbols_of(module))
            found[f"api/{module}.md"] = (
                f"# {module}\n\n{docstring_of(module)}\n\n"
                f"```{{py:module}} {PACKAGE}.{module}\n```\n\n{entries}")
    return found
