"""Where settings come from: arguments, the environment, files, in that order of precedence."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings.section import Problem, Section, problems_error

PREFIX: Final = "ROOTSTREAM_"
CONFIG_VARIABLE: Final = "ROOTSTREAM_CONFIG"
ALIASES: Final[Mapping[str, str]] = {
    "ROOTSTREAM_DATABASE_URL": "database.url",
    "ROOTSTREAM_REDIS_URL": "redis.url",
}
"""Short names of the two settings that everybody needs."""
FALLBACKS: Final[Mapping[str, str]] = {"DATABASE_URL": "database.url", "REDIS_URL": "redis.url"}
"""What many platforms set by themselves; used when nothing else names the setting."""
_OTHER_VARIABLES: Final = (CONFIG_VARIABLE,)
# The test suite and its fixtures read these.
_IGNORED_PREFIX: Final = "ROOTSTREAM_TEST_"
_FILE: Final = "_FILE"


@dataclass(frozen=True)
class Found:
    """A raw value and where it was found; the value stays out of ``repr``.

    ``file`` is the file whose whole content it is, if it is one's.
    """

    value: object = field(repr=False)
    origin: str
    file: Path | None = None


@dataclass(frozen=True)
class Gathered:
    """The winning value of every setting that is set anywhere."""

    values: Mapping[str, Found]
    names: tuple[str, ...]
    unknown: tuple[str, ...]
    config_file: Path | None

    def tree(self) -> dict[str, Any]:
        """Return the values as nested mappings, the form the models take."""
        tree: dict[str, Any] = {}
        for name, found in self.values.items():
            section, _, key = name.partition(".")
            tree.setdefault(section, {})[key] = found.value
        return tree

    def origins(self) -> dict[str, str]:
        """Return where each value came from, by dotted name."""
        return {name: found.origin for name, found in self.values.items()}


def gather(
    model: type[Section],
    *,
    overrides: Mapping[str, Any],
    config_file: str | Path | None,
    environ: Mapping[str, str] | None,
) -> Gathered:
    """Collect the settings of ``model`` from every source; an earlier source wins."""
    environ = os.environ if environ is None else environ
    known = names(model)
    path = find_config_file(config_file, environ)
    environment, unknown = _from_environment(known, environ)
    values = {
        **_from_fallbacks(environ),
        **(_from_toml(path) if path else {}),
        **environment,
        **_from_arguments(overrides),
    }
    return Gathered(values, known, unknown, path)


def names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the dotted name of every setting below ``model``, in order of definition."""
    return tuple(
        f"{section}.{key}"
        for section, info in model.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for key in info.annotation.model_fields
    )


def variable(name: str) -> str:
    """Return the environment variable of a setting, the short one where there is one."""
    for alias, target in ALIASES.items():
        if target == name:
            return alias
    return PREFIX + name.upper().replace(".", "__")


def located(found: list[tuple[str, str]], gathered: Gathered) -> ConfigurationError:
    """Rewrite problems so that each says where its value came from and what may be meant."""
    return problems_error(
        [Problem((name, text + _suggestion(name, gathered.names))) for name, text in found],
        sources=gathered.origins(),
    )


def find_config_file(explicit: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the TOML file to read: the one named, else the first of the usual places."""
    named = explicit or environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            origin = "config_file" if explicit else CONFIG_VARIABLE
            raise ConfigurationError(f"{origin}: there is no file {path}", setting=origin)
        return path
    return next((path for path in _usual_places(environ) if path.is_file()), None)


def _usual_places(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path("rootstream.toml")
    home = environ.get("HOME")
    config_home = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
    if config_home:
        yield Path(config_home, "rootstream-db", "config.toml")
    yield Path("/etc/rootstream-db/config.toml")


def _from_environment(
    known: tuple[str, ...], environ: Mapping[str, str]
) -> tuple[dict[str, Found], tuple[str, ...]]:
    variables = {variable(name): name for name in known}
    variables |= {PREFIX + name.upper().replace(".", "__"): name for name in known}
    files = {key + _FILE: name for key, name in variables.items()}
    values: dict[str, Found] = {}
    unknown = []
    for key in sorted(key for key in environ if key.startswith(PREFIX)):
        name = variables.get(key) or files.get(key)
        if name is None:
            if key not in _OTHER_VARIABLES and not key.startswith(_IGNORED_PREFIX):
                unknown.append(key)
        elif environ[key]:  # compose files pass unset variables on as empty ones
            _refuse_second(values, name, key)
            values[name] = _from_file(key, environ) if key in files else Found(environ[key], key)
    return values, tuple(unknown)


def _refuse_second(values: Mapping[str, Found], name: str, key: str) -> None:
    if name in values:
        first = values[name].origin.partition(" ")[0]
        raise ConfigurationError(
            f"{first} and {key} are both set and mean the same setting: keep one", setting=name
        )


def _from_file(key: str, environ: Mapping[str, str]) -> Found:
    path = Path(environ[key])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{key}: {_why(error, path)}", setting=key) from error
    return Found(text.removesuffix("\n").removesuffix("\r"), f"{key} ({path})", path)


def _from_fallbacks(environ: Mapping[str, str]) -> dict[str, Found]:
    return {name: Found(environ[key], key) for key, name in FALLBACKS.items() if environ.get(key)}


def _from_toml(path: Path) -> dict[str, Found]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(_why(error, path), setting=str(path)) from error
    return _flatten(data, str(path))


def _why(error: Exception, path: Path) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}"
    if isinstance(error, UnicodeDecodeError):
        return f"{path} is not UTF-8 text"
    # Its message names a line, or at worst one character.
    return f"{path} is not valid TOML: {error}"


def _from_arguments(overrides: Mapping[str, Any]) -> dict[str, Found]:
    tree: dict[str, Any] = {}
    single: dict[str, Found] = {}
    for key, value in overrides.items():
        name = ALIASES.get(PREFIX + key.upper()) or key.replace("__", ".")
        if value is None:
            continue  # an option that was not given
        if "." in name:
            single[name] = Found(value, "argument")
        else:
            tree[key] = _as_mapping(value)
    return _flatten(tree, "argument") | single


def _as_mapping(value: object) -> object:
    if isinstance(value, BaseModel):
        return {key: getattr(value, key) for key in value.model_fields_set}
    return value


def _flatten(tree: Mapping[str, Any], origin: str) -> dict[str, Found]:
    values: dict[str, Found] = {}
    for section, content in tree.items():
        if not isinstance(content, Mapping):
            raise problems_error(
                [Problem((section, "is not a section of settings"))], sources={section: origin}
            )
        values |= {f"{section}.{key}": Found(value, origin) for key, value in content.items()}
    return values


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
