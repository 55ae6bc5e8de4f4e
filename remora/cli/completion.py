"""``remora completion SHELL``: a script that completes commands, keys and names in a shell.

All words stand in the script, so a key press starts no Python; print it anew after an update.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from remora.api.configs import config_names
from remora.cli.help import COMMANDS, config_name, family
from remora.cli.schema import SCHEMAS

__all__ = ["completion_script", "run"]

_GROUPS = ("agent", "cost_model", "experiment", "hardware", "model", "subjects", "suite", "tracker")
_LAUNCHERS = ("basic", "joblib", "ray", "submitit_local", "submitit_slurm")

_BASH = r"""
_remora() {
    local line="${COMP_LINE:0:$COMP_POINT}" current words command
    current="${line##* }"
    # Without arrays, which bash and zsh count and read in other ways.
    words="${line% *} "
    words="${words#* }"
    command="${words%% *}"
    words="${words#* }"
    case "$command" in
        @FAMILIES@) command="$command ${words%% *}" ;;
    esac
    local candidates="@FIRST@"
    case "$command" in
@CASES@
    esac
    case "$current" in
@VALUES@
    esac
    COMPREPLY=($(compgen -W "$candidates" -- "$current"))
    # Bash takes the part before the last = for another word.
    if [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*=}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -F _remora remora
"""
_ZSH_HEAD = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit"


def run(shell: str) -> None:
    """Print the script for ``bash`` or ``zsh``."""
    print(completion_script(shell))


def completion_script(shell: str) -> str:
    """Return the script for ``bash`` or ``zsh``, which reads that of bash."""
    firsts = list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    families = [first for first in firsts if family(first)]
    cases = [f'        "{first} ") candidates="{" ".join(family(first))}" ;;' for first in families]
    for name in COMMANDS:
        keys = " ".join(f"{key}=" for key in _keys(name))
        cases.append(f'        "{name}") candidates="{keys} -m --help" ;;')
    text = _BASH.replace("@FAMILIES@", "|".join(families)).replace("@FIRST@", " ".join(firsts))
    text = text.replace("@CASES@", "\n".join(cases)).replace("@VALUES@", "\n".join(_values()))
    head = f"# Completion of remora in {shell}; made by: remora completion {shell}"
    return "\n".join([head, _ZSH_HEAD, text.strip()] if shell == "zsh" else [head, text.strip()])


def _keys(command: str) -> list[str]:
    schema = SCHEMAS.get(config_name(command))
    return [] if schema is None else [*_flat(schema, ""), "hydra/launcher"]


def _flat(schema: type, prefix: str) -> Iterator[str]:
    """Keys of a schema and of its sections, dotted; names of groups stay keys of their own."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        section = _section(hints[field.name])
        if section is None or field.name in _GROUPS:
            yield prefix + field.name
        if section is not None:
            yield from _flat(section, f"{prefix}{field.name}.")


def _section(hint: Any) -> type | None:
    found = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
    return found[0] if found and isinstance(found[0], type) else None


def _values() -> Iterator[str]:
    """What follows ``key=``, for keys that choose a name."""
    for group in _GROUPS:
        names = " ".join(f"{group}={name}" for name in config_names(group))
        yield f'        {group}=*) candidates="{names}" ;;'
    names = " ".join(f"hydra/launcher={name}" for name in _LAUNCHERS)
    yield f'        hydra/launcher=*) candidates="{names}" ;;'
    for key in sorted(_booleans()):
        yield f'        {key}=*) candidates="{key}=true {key}=false" ;;'


def _booleans() -> set[str]:
    return {
        field.name
        for schema in SCHEMAS.values()
        for field in fields(schema)
        if get_type_hints(schema)[field.name] in (bool, bool | None)
    }
