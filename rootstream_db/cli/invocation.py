"""What every command shares: ``--json``, ``--quiet``, ``--config``, and errors as exit statuses."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.exit_codes import ExitCode, exit_code_for
from rootstream_db.cli.output import Output
from rootstream_db.errors import RootStreamError

if TYPE_CHECKING:
    from rootstream_db.rootstream import RootStream
    from rootstream_db.settings import Settings

_SHARED: dict[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on success.")],
    "config_file": Annotated[
        Path | None, typer.Option("--config", help="Configuration file (TOML).")
    ],
}
_DEFAULTS: dict[str, Any] = {"as_json": False, "quiet": False, "config_file": None}


class Invocation:
    """One run of a command: its voice, its settings and the data layer it works on."""

    def __init__(self, output: Output, config_file: Path | None) -> None:
        self.output = output
        self.config_file = config_file

    @cached_property
    def settings(self) -> Settings:
        """The settings of the environment and the configuration file."""
        from rootstream_db.settings import Settings

        return Settings.load(config_file=self.config_file)

    @contextmanager
    def rootstream(self, *, check_schema: bool = True) -> Iterator[RootStream]:
        """Open the data layer the settings name, after checking that the schema fits."""
        from rootstream_db.rootstream import RootStream

        with RootStream.from_settings(self.settings) as rootstream:
            if check_schema:
                from rootstream_db import schema

                schema.check(rootstream.settings.database)
            yield rootstream


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Register a function ``f(invocation, …)`` as a command with the shared options."""

    def register(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            shared = {key: arguments.pop(key) for key in _SHARED}
            output = Output(as_json=shared["as_json"], quiet=shared["quiet"])
            invocation = Invocation(output, shared["config_file"])
            with _reported(output):
                code = function(invocation, **arguments)
            sys.exit(ExitCode.OK if code is None else code)

        _present(run, function)
        return app.command(name)(run)

    return register


@contextmanager
def _reported(output: Output) -> Iterator[None]:
    try:
        yield
    except RootStreamError as error:
        output.error(error)
        sys.exit(exit_code_for(error))
    except KeyboardInterrupt:
        output.messages.print("interrupted", style="red")
        sys.exit(ExitCode.INTERRUPTED)


def _present(run: Callable[..., None], function: Callable[..., Any]) -> None:
    """Give ``run`` the signature Typer is to see: the function's own plus the shared options."""
    hints = typing.get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    shown = [
        parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)
        for parameter in own
    ]
    shown += [
        inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[key], annotation=annotation
        )
        for key, annotation in _SHARED.items()
    ]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # read by Typer
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    del run.__wrapped__  # type: ignore[attr-defined]  # Typer would look through to the function
