"""How a benchmark takes its arguments and leaves its record: JSON beside a Markdown table."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def arguments(words: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Read ``key=value`` words; exits with a sentence on an unknown key."""
    values = dict(defaults)
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key not in defaults:
            allowed = ", ".join(f"{name}=" for name in defaults)
            raise SystemExit(f"unknown argument {word!r}; allowed: {allowed}")
        values[key] = value
    return values


def context(command: str, packages: Sequence[str]) -> dict[str, Any]:
    """What a figure depends on: command, date, machine and versions."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def write(folder: Path, name: str, record: Mapping[str, Any], title: str, body: str) -> None:
    """Write ``name.json`` and ``name.md`` into ``folder`` and print the latter."""
    about = record["context"]
    versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
    text = (
        f"# {title}\n\n`{about['command']}`\n\n{body}\n\n"
        f"{about['date']}; {about['machine']}; {versions}.\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
