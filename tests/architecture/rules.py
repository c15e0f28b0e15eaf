"""The house rules that ruff and import-linter cannot express, as functions over one module each.

A rule yields a finding for each line that breaks it; a finding says what to do instead.
``test_house_rules.py`` runs them over the tree, ``test_rules_can_fail.py`` over bad snippets.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final, NamedTuple

MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 40
NAMES_THAT_SAY_NOTHING: Final = {"utils", "util", "common", "helpers", "helper", "misc", "shared"}
QUERY_BUILDERS: Final = {"select", "insert", "update", "delete", "text"}
MOCKS: Final = {"Mock", "MagicMock", "AsyncMock", "NonCallableMock", "create_autospec", "fakeredis"}
CLOCK_READS: Final = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
}
NEWER_THAN_REDIS_6_2: Final = {
    *("lmpop", "blmpop", "zmpop", "bzmpop", "sintercard", "zintercard"),
    *("hexpire", "hpexpire", "waitaof"),
    *("fcall", "function_load", "spublish", "ssubscribe"),
}
"""Methods of redis-py whose commands Redis 6.2, the oldest server supported, does not have."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    """One breach of a rule: where, and what to do instead."""

    line: int
    message: str


class Call(NamedTuple):
    """A call of an attribute: ``owner.name(…)``."""

    line: int
    owner: str
    name: str
    keywords: frozenset[str | None]


class Import(NamedTuple):
    """One imported name; ``import x`` has no name beside its module."""

    line: int
    module: str
    name: str


@dataclass(frozen=True)
class Module:
    """One Python file: where it stands in the tree, and what it says."""

    path: PurePosixPath
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source, filename=str(self.path))

    @cached_property
    def calls(self) -> list[Call]:
        """Every call of an attribute."""
        return [
            Call(
                node.lineno,
                ast.unparse(node.func.value),
                node.func.attr,
                frozenset(keyword.arg for keyword in node.keywords),
            )
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]

    @cached_property
    def imports(self) -> list[Import]:
        """Every name imported, at the top or inside a function."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(node.lineno, alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                found += [Import(node.lineno, origin, alias.name) for alias in node.names]
        return found

    @cached_property
    def comments(self) -> dict[int, str]:
        """Every comment by its line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    def within(self, *places: str) -> bool:
        """Whether the module is one of ``places`` or inside one of them."""
        return any(place in (str(self.path), *map(str, self.path.parents)) for place in places)


Rule = Callable[[Module], Iterator[Finding]]


def commits_have_two_homes(module: Module) -> Iterator[Finding]:
    """Only the database and its unit of work end transactions; migrations run on their own."""
    homes = ("database", "unit_of_work.py", "schema.py")
    if module.within(*(f"rootstream_db/{home}" for home in homes)):
        return
    for call in module.calls:
        if call.name in {"commit", "rollback"}:
            yield Finding(
                call.line,
                f".{call.name}() belongs to Database.transaction(): take the caller's UnitOfWork, "
                "or open `with database.transaction() as work:`",
            )


def queries_live_in_repositories(module: Module) -> Iterator[Finding]:
    """Statements are built where the next reader looks for them."""
    homes = ("repositories", "database", "schema.py", "embedded")
    if module.within(*(f"rootstream_db/{home}" for home in homes)):
        return
    # Models write fragments of DDL (server defaults, partial indexes) with text(); nothing else.
    forbidden = QUERY_BUILDERS - ({"text"} if module.within("rootstream_db/models") else set())
    for line, name in _query_builders(module):
        if name in forbidden:
            yield Finding(
                line,
                f"{name}() builds SQL outside rootstream_db/repositories/: add a repository method",
            )


def _query_builders(module: Module) -> Iterator[tuple[int, str]]:
    for imported in module.imports:
        if imported.module.split(".")[0] == "sqlalchemy":
            yield imported.line, imported.name
    for call in module.calls:
        if call.owner in {"sa", "sqlalchemy"}:
            yield call.line, call.name
        elif call.name == "exec_driver_sql":
            yield call.line, "text"


def only_the_clock_asks_the_time(module: Module) -> Iterator[Finding]:
    """Whoever needs the time takes a ``Clock``, so that tests can set it."""
    if module.within("rootstream_db/clock.py"):
        return
    for call in module.calls:
        name = f"{call.owner.split('.')[-1]}.{call.name}"
        if name in CLOCK_READS:
            yield Finding(
                call.line,
                f"{name}() belongs to rootstream_db/clock.py: take a Clock (or work.now), "
                "and measure durations with time.monotonic()",
            )


def only_settings_read_the_environment(module: Module) -> Iterator[Finding]:
    """Every variable the package obeys is in one place, with its type and its default."""
    if module.within("rootstream_db/settings"):
        return
    lines = {
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"os.environ", "os.getenv", "os.putenv"}
    }
    lines |= {
        imported.line
        for imported in module.imports
        if imported.module == "os" and imported.name in {"environ", "getenv", "putenv"}
    }
    for line in sorted(lines):
        yield Finding(line, "rootstream_db/settings/ alone reads the environment: add a setting")


def only_the_command_line_prints(module: Module) -> Iterator[Finding]:
    """A library that prints spoils the output of the program that uses it."""
    if module.within("rootstream_db/cli"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"print", "sys.stdout.write", "sys.stderr.write"}:
                yield Finding(node.lineno, f"{name}() belongs to rootstream_db/cli/: log or return")


def redis_commands_exist_in_6_2(module: Module) -> Iterator[Finding]:
    """The oldest server supported decides which commands there are."""
    for call in module.calls:
        conditional_expire = call.name == "expire" and call.keywords & {"nx", "xx", "gt", "lt"}
        if call.name in NEWER_THAN_REDIS_6_2 or conditional_expire:
            yield Finding(call.line, f".{call.name}() needs a Redis newer than 6.2: use a script")


def functions_stay_short(module: Module) -> Iterator[Finding]:
    """A function fits onto one screen; its docstring does not count."""
    for node in ast.walk(module.tree):
        if not isinstance(node, Function):
            continue
        lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
        if lines > MAX_FUNCTION_LINES:
            yield Finding(
                node.lineno,
                f"{node.name}() has {lines} lines, {MAX_FUNCTION_LINES} allowed: "
                "give its parts names of their own",
            )


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def public_names_are_documented(module: Module) -> Iterator[Finding]:
    """Every public module, class and function says what it is for."""
    if module.source.strip() and ast.get_docstring(module.tree) is None:
        yield Finding(1, "the module has no docstring: say in one sentence what it is for")
    yield from _undocumented(module.tree, prefix="")


def _undocumented(parent: ast.Module | ast.ClassDef, *, prefix: str) -> Iterator[Finding]:
    for node in parent.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        if ast.get_docstring(node) is None and not _documented_elsewhere(node):
            yield Finding(node.lineno, f"{name} is public: say what it is for in a docstring")
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node, prefix=f"{name}.")


def _documented_elsewhere(node: Function | ast.ClassDef) -> bool:
    decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(decorators & {"overload", "override", "setter", "deleter"})


def annotations_are_not_evaluated(module: Module) -> Iterator[Finding]:
    """Python 3.11 needs the import for what later versions do by themselves."""
    is_only_docstring = all(isinstance(node, ast.Expr) for node in module.tree.body)
    has_import = any(
        (imported.module, imported.name) == ("__future__", "annotations")
        for imported in module.imports
    )
    if not has_import and not is_only_docstring:
        yield Finding(1, "add `from __future__ import annotations` as the first import")


def exceptions_to_checks_have_reasons(module: Module) -> Iterator[Finding]:
    """Whoever switches a check off tells the next reader why, behind the mark or above it."""
    bare = re.compile(r"#\s*(type:\s*ignore(\[[\w, -]*\])?|noqa(:[\s\w,]*)?)\s*$")
    for line, comment in module.comments.items():
        if bare.search(comment) and not _is_comment(module, line - 1):
            yield Finding(line, f"{comment!r} has no reason: add one, `  # because`")


def _is_comment(module: Module, line: int) -> bool:
    return line > 0 and module.source.splitlines()[line - 1].lstrip().startswith("#")


def modules_stay_short(module: Module) -> Iterator[Finding]:
    """A module fits into one head."""
    lines = len(module.source.splitlines())
    if lines > MAX_MODULE_LINES:
        yield Finding(lines, f"{lines} lines, {MAX_MODULE_LINES} allowed: split it by purpose")


def names_say_what_a_module_is_for(module: Module) -> Iterator[Finding]:
    """A drawer called "utils" is where code is lost."""
    for part in module.path.with_suffix("").parts:
        if part.strip("_") in NAMES_THAT_SAY_NOTHING:
            yield Finding(1, f"the name {part!r} says nothing: name the module after its purpose")


def tests_use_real_servers(module: Module) -> Iterator[Finding]:
    """A mock of PostgreSQL or Redis proves what its author believed; ``patch`` may cause faults."""
    used = [(imported.line, imported.name or imported.module) for imported in module.imports]
    used += [(call.line, call.name) for call in module.calls]
    for line, name in used:
        if name in MOCKS:
            yield Finding(line, f"{name} stands for something real: use the fixtures' servers")


def tests_poll_instead_of_sleeping(module: Module) -> Iterator[Finding]:
    """A sleep is too long on a fast machine and too short on a slow one.

    The pause of a polling loop is one, and so is a sleep whose comment says what it stands for.
    """
    polling = {
        node.lineno
        for loop in ast.walk(module.tree)
        if isinstance(loop, ast.While)
        for node in ast.walk(loop)
        if isinstance(node, ast.Call)
    }
    for call in module.calls:
        explained = call.line in polling or call.line in module.comments
        if (call.owner, call.name) == ("time", "sleep") and not explained:
            yield Finding(call.line, "time.sleep() in a test: poll with a deadline instead")


RULES_OF_THE_PACKAGE: Final[tuple[Rule, ...]] = (
    commits_have_two_homes,
    queries_live_in_repositories,
    only_the_clock_asks_the_time,
    only_settings_read_the_environment,
    only_the_command_line_prints,
    redis_commands_exist_in_6_2,
)
RULES_OF_ALL_PRODUCT_CODE: Final[tuple[Rule, ...]] = (
    functions_stay_short,
    public_names_are_documented,
)
RULES_OF_EVERYTHING: Final[tuple[Rule, ...]] = (
    annotations_are_not_evaluated,
    exceptions_to_checks_have_reasons,
    modules_stay_short,
    names_say_what_a_module_is_for,
)
RULES_OF_TESTS: Final[tuple[Rule, ...]] = (tests_poll_instead_of_sleeping, tests_use_real_servers)
