"""How every command reads its options: flag > RYZEN_* environment > YAML file > default.

A wrong value is one line that names the option, where it came from, the value and what is allowed.
Needs the `cli` extra (pydantic, pydantic-settings, PyYAML).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

Model = TypeVar("Model", bound="Settings")

USAGE_EXIT_CODE = 2


class SettingsError(ValueError):
    """One or more options are wrong; the text has one line for each."""


class Standard(NamedTuple):
    """A variable that other tools know too. `factor`: from its unit to ours, where it is a number."""

    variable: str
    factor: float | None = None

    def read(self) -> object:
        """Its value; text that should be a number and is none stays text, and is refused as such."""
        text = os.environ[self.variable].strip()
        try:
            return text if self.factor is None else float(text) * self.factor
        except ValueError:
            return text


class Settings(BaseSettings):
    """Base of the settings of a command. Field names are the YAML keys; flags and environment follow from them."""

    model_config = SettingsConfigDict(env_prefix="RYZEN_", extra="forbid", frozen=True)
    standard_environment: ClassVar[Mapping[str, Standard]] = {}
    """Fields that a variable outside RYZEN_* sets as well; RYZEN_* wins over it."""


def load(model: type[Model], flags: dict[str, Any], file: Path | None = None) -> Model:
    """Merge the sources of `model`. Flags that are None were not given. Raises SettingsError."""
    given = {name: value for name, value in flags.items() if value is not None}
    from_file = read_yaml(file) if file is not None else {}
    own = EnvSettingsSource(model)()
    standard = {
        name: each
        for name, each in model.standard_environment.items()
        if name not in own and os.environ.get(each.variable, "").strip()
    }
    from_environment = {**{name: each.read() for name, each in standard.items()}, **own}
    merged = {**from_file, **from_environment, **given}
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        named = {
            name: standard[name].variable if name in standard else f"RYZEN_{name.upper()}" for name in from_environment
        }
        raise SettingsError(_lines(error, model, given, named, file)) from None


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from `file`. Raises SettingsError."""
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where is not None else ""
        raise SettingsError(f"{file}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: a mapping of settings is expected, this is a {type(content).__name__}")
    return content


def validation_lines(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """Each mistake as one line `source: key: value: what is wrong`; for files other than command settings."""
    return "\n".join(f"{source}: {_key(each)}{_what(each, model)}" for each in error.errors())


def fail(message: str) -> NoReturn:
    """End the command with one line on standard error, as for any wrong option."""
    sys.stderr.write(message.rstrip() + "\n")
    raise SystemExit(USAGE_EXIT_CODE)


def _lines(
    error: ValidationError,
    model: type[BaseModel],
    flags: dict[str, Any],
    environment: dict[str, str],
    file: Path | None,
) -> str:
    lines = []
    for each in error.errors():
        key = str(each["loc"][0]) if each["loc"] else ""
        if key in flags:
            source = f"option --{key.replace('_', '-')}"
        elif key in environment:
            source = f"environment {environment[key]}"
        else:
            source = f"{file}: {_key(each)}".rstrip(": ") if file else f"option --{key.replace('_', '-')}"
        lines.append(f"{source}{_what(each, model)}")
    return "\n".join(lines)


def _key(each: Any) -> str:
    return ".".join(str(part) for part in each["loc"])


def _what(each: Any, model: type[BaseModel] | None) -> str:
    if each["type"] == "extra_forbidden":
        known = f" (known: {', '.join(sorted(_fields(model, each['loc'])))})" if model is not None else ""
        return f": unknown key{known}"
    if each["type"] == "missing":
        return ": is needed"
    if each["type"] == "value_error":  # raised by a validator of ours, in words of its own
        return f": {each['ctx']['error']}"
    return f": {each['input']!r} is not allowed: {each['msg'][:1].lower()}{each['msg'][1:]}"


def _fields(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location[:-1]:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)
