"""The page of every public class and function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.reference.markdown import summary

PACKAGE: Final = Path(__file__).resolve().parents[2] / "rootstream_db"
INTRODUCTION = """\
# Python interface

Public classes and functions with their signatures, in the order in which one meets them.
[Settings](settings.md), [errors](errors.md) and [tables](schema.md) have pages of their own."""
# In reading order.
SHOWN: Final = (
    "rootstream",
    "unit_of_work",
    "database",
    "services",
    "repositories",
    "cache",
    "embedded",
    "schema",
    "testing",
    "security",
    "clock",
    "correlation",
)


def render() -> str:
    """Return the page."""
    modules = [path for name in SHOWN for path in _sources(name)]
    return "\n".join([INTRODUCTION, *(line for path in modules for line in _module(path))])


def _sources(name: str) -> list[Path]:
    single = PACKAGE / f"{name}.py"
    return [single] if single.exists() else sorted((PACKAGE / name).rglob("*.py"))


def _module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [node for node in tree.body if _is_public(node)]
    classes = [node for node in public if isinstance(node, ast.ClassDef)]
    functions = [node for node in public if isinstance(node, ast.FunctionDef)]
    if not public:
        return
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )
    yield from ("", f"## {name}", "", summary(ast.get_docstring(tree)))
    for node in classes:
        yield from _class(node)
    if functions:
        yield from ("", *map(_function, functions))


def _is_public(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")


def _class(node: ast.ClassDef) -> Iterator[str]:
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    initial = next((item for item in methods if item.name == "__init__"), None)
    shown = [item for item in methods if _is_public(item) and not _decorators(item) & {"setter"}]
    made_from = _parameters(initial) if initial else _fields(node)
    yield from ("", f"### `{node.name}{made_from}`")
    yield from ("", summary(ast.get_docstring(node)))
    if shown:
        yield from ("", *map(_function, shown))


def _fields(node: ast.ClassDef) -> str:
    """Return what a dataclass or a named tuple is made from; nothing for other classes."""
    marks = " ".join(map(ast.unparse, [*node.decorator_list, *node.bases]))
    if "dataclass" not in marks and "NamedTuple" not in marks:
        return ""
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return f"({', '.join(map(ast.unparse, fields))})"


def _function(node: ast.FunctionDef) -> str:
    returned = ast.unparse(node.returns) if node.returns else "None"
    if _decorators(node) & {"property", "cached_property", "Part"}:
        shown = f"{node.name}: {returned}"
    else:
        shown = f"{node.name}{_parameters(node)} -> {returned}"
    return f"- `{shown}`: {summary(ast.get_docstring(node))}"


def _decorators(node: ast.FunctionDef) -> set[str]:
    return {ast.unparse(item).split(".")[-1] for item in node.decorator_list}


def _parameters(node: ast.FunctionDef) -> str:
    """Return the signature as one writes it: without the receiver, spaces around defaults."""
    given = node.args
    positional = given.posonlyargs + given.args
    missing = [None] * (len(positional) - len(given.defaults))
    parts = [
        _parameter(*pair) for pair in zip(positional, [*missing, *given.defaults], strict=True)
    ]
    if positional and positional[0].arg in {"self", "cls"}:
        parts.pop(0)
    if given.vararg:
        parts.append(f"*{_parameter(given.vararg)}")
    elif given.kwonlyargs:
        parts.append("*")
    parts += [_parameter(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        parts.append(f"**{_parameter(given.kwarg)}")
    return f"({', '.join(parts)})"


def _parameter(argument: ast.arg, default: ast.expr | None = None) -> str:
    annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{annotation}" + (f" = {ast.unparse(default)}" if default else "")
