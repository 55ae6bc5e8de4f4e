"""Hydra's and OmegaConf's errors in our words: the key, the value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from remora.errors import InvalidInputError, UnknownNameError, UsageError, closest_names

__all__ = ["translated"]

Compose = Callable[..., DictConfig]

_COULD_NOT_OVERRIDE = re.compile(r"Could not override '([^'@]+)")
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '([^\s=]+)=(.*)'")
_MUST_SPECIFY = re.compile(r"You must specify '([^']+)'")
_MERGING = re.compile(r"Error merging override ([^\s=]+)=(.*)")
_GROUP_OVERRIDE = re.compile(r"[a-z_]+=[A-Za-z0-9_]+")
_NUMBER_OVERRIDE = re.compile(r"([a-z_]+)=([-+.0-9a-z]*)")

# The end of OmegaConf's sentences about a wrong type, in ours.
_ALLOWED_KINDS = (
    ("to Integer", "a whole number"),
    ("to Float", "a number"),
    ("valid bool", "true or false"),
    ("ListConfig", "a list such as [a,b]"),
    ("Dict[", "single values, as in KEY.NAME=value"),
)


@contextmanager
def translated(
    config_name: str, overrides: Sequence[str], compose: Compose | None
) -> Iterator[None]:
    """Turn errors of composing into UsageErrors while the context is open.

    Args:
        config_name: what is composed.
        overrides: what the user gave.
        compose: composes a configuration to look up its keys; None looks up none.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise _translate(error, config_name, overrides, compose) from error
    except ValueError as error:
        # Hydra's own word for a group that is chosen by a number.
        if not str(error).startswith("Config group override must be"):
            raise
        raise _number_for_group(overrides) from error


def _translate(
    error: Exception, config_name: str, overrides: Sequence[str], compose: Compose | None
) -> UsageError:
    text = str(error)
    if isinstance(error, OverrideParseException):
        return InvalidInputError(
            f"argument {error.override!r} is not of the form key=value, or its value needs quotes"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.partition("/")
        return UnknownNameError(group, name, _names(group))
    if isinstance(error, MissingMandatoryValue):
        return InvalidInputError(f"{_full_key(error)} is missing; give {_full_key(error)}=")
    if several := _AMBIGUOUS.search(text):
        return InvalidInputError(
            f"{several.group(1)} is {several.group(2)!r}, allowed without -m: one value, since -m "
            "runs one job for each of several"
        )
    if missing := _MUST_SPECIFY.search(text):
        return _missing_group(missing.group(1))
    if unknown := _COULD_NOT_OVERRIDE.search(text):
        return _unknown_key(unknown.group(1), _known_keys(config_name, overrides, compose))
    if isinstance(error, ConfigCompositionException):
        return _merging(error, text, config_name, overrides, compose)
    return InvalidInputError(_first_line(text))


def _unknown_key(key: str, known: list[str]) -> UsageError:
    """Also for a known section where there is nothing to choose by its name."""
    inner = [name for name in known if name.startswith(f"{key}.")]
    if key in known and inner:
        return InvalidInputError(f"{key} takes no name here, allowed: {', '.join(inner)}")
    if "." in key or closest_names(key, known):
        return UnknownNameError("key", key, known)
    # Keys of sections say little to somebody whose outer key is wrong.
    return UnknownNameError("key", key, [name for name in known if "." not in name])


def _merging(
    error: Exception,
    text: str,
    config_name: str,
    overrides: Sequence[str],
    compose: Compose | None,
) -> UsageError:
    merging = _MERGING.search(text)
    cause = error.__cause__
    if merging is None:
        return InvalidInputError(_first_line(str(cause or error)))
    key, value = merging.group(1).lstrip("+~"), merging.group(2)
    if isinstance(cause, ValidationError):
        return InvalidInputError(f"{key} is {value!r}, {_allowed(_first_line(str(cause)))}")
    return UnknownNameError("key", key, _known_keys(config_name, overrides, compose))


def _allowed(reason: str) -> str:
    for words, kind in _ALLOWED_KINDS:
        if words in reason:
            return f"allowed: {kind}"
    return f"which is not allowed: {reason}"


def _missing_group(group: str) -> UsageError:
    return InvalidInputError(f"{group} is missing, allowed: {', '.join(_names(group))}")


def _number_for_group(overrides: Sequence[str]) -> UsageError:
    """The error about the first group whose name is a number."""
    for text in overrides:
        match = _NUMBER_OVERRIDE.fullmatch(text)
        names = _names(match.group(1)) if match else ()
        if match and names and match.group(2) not in names:
            return UnknownNameError(match.group(1), match.group(2), names)
    return InvalidInputError("a group of the configuration is chosen by a number, allowed: a name")


def _names(group: str) -> tuple[str, ...]:
    """Names of the files of a group; none if there is no such group."""
    from remora.api.configs import config_names

    try:
        return tuple(config_names(group))
    except OSError:
        return ()


def _known_keys(config_name: str, overrides: Sequence[str], compose: Compose | None) -> list[str]:
    """All keys of the configuration, with the groups that the user chose where those exist."""
    if compose is None:
        return []
    chosen = [text for text in overrides if _GROUP_OVERRIDE.fullmatch(text)]
    for attempt in (chosen, ["model=gpt2_tiny"], []):
        try:
            config = compose(config_name, overrides=attempt)
        except (HydraException, OmegaConfBaseException):
            continue
        return sorted(_flat(OmegaConf.to_container(config), ""))
    return []


def _flat(values: Any, prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        if not isinstance(value, dict) or not prefix:
            yield f"{prefix}{key}"


def _full_key(error: OmegaConfBaseException) -> str:
    return str(error.full_key or error.key)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "wrong configuration"
