"""The page of every command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer.main

from rootstream_db.cli.app import app
from rootstream_db.cli.exit_codes import ExitCode
from scripts.reference.markdown import code, paragraph, table

INTRODUCTION = """\
# Command line

Every command takes `--json` (print one object on standard output), `--quiet` (say nothing on
success), `--config FILE` and `--help`.

## Exit codes
"""
EVERYWHERE = {"as_json", "quiet", "config_file", "help"}


def render() -> str:
    """Return the page."""
    exit_codes = [[str(entry.value), entry.name.lower().replace("_", " ")] for entry in ExitCode]
    lines = [INTRODUCTION, *table("code", "meaning", rows=exit_codes)]
    for path, command in _commands("rootstream-db", typer.main.get_command(app)):
        usage = command.collect_usage_pieces(command.context_class(command, info_name=path))
        lines += ["", f"## {path}", "", paragraph(command.help or "")]
        lines += ["", f"    {' '.join([path, *usage])}"]
        if rows := [_row(item) for item in command.params if item.name not in EVERYWHERE]:
            lines += ["", *table("parameter", "meaning", "default", rows=rows)]
    return "\n".join(lines)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children: Mapping[str, Any] = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name in sorted(children):
        if not children[name].hidden:
            yield from _commands(f"{path} {name}", children[name])


def _row(parameter: Any) -> list[str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.metavar or parameter.name.upper()]
    required = " (required)" if parameter.required else ""
    default = "" if parameter.default in (False, ()) else parameter.default
    meaning = f"{getattr(parameter, 'help', None) or ''}{required}"
    return [", ".join(code(name) for name in names), meaning, code(default)]
