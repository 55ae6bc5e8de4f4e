"""The fenced blocks of the README and of the pages under docs/, and what their markers say.

A comment on the line before a block says how it is tested; readers do not see it:

- ``<!-- not run: WHY -->``: not at all, for the reason given.
- ``<!-- run: key=value ... -->``: for real, with these values added where the command knows them.
- ``<!-- file: NAME -->``: written to a file of that name, which later blocks use.

Without one, Python runs and command lines are composed and checked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = (
    "remora", "make", "python", "torchrun", "srun", "pip", "source", "echo", "git", "cd", ".ci/run",
    "#!/bin/bash", "pre-commit",
)  # fmt: skip

_BLOCK = re.compile(
    r"^(?:<!-- (?P<marker>not run|run|file):(?P<words>[^\n]*?)-->\n+)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"(?<!`)`(remora [a-z][^`\n]*)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: file in the repository.
        line: number of its first line.
        language: after the fence.
        text: what stands in it.
        marker, words: see the module; empty without one.
    """

    page: str
    line: int
    language: str
    text: str
    marker: str
    words: str

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands, and not what they print."""
        if self.language in ("bash", "sh"):
            return True
        words = self.text.split()
        return not self.language and bool(words) and words[0] in COMMANDS

    @property
    def lines(self) -> list[str]:
        """Its commands, one by one, without comments."""
        text = self.text.replace("\\\n", " ")
        parts = (part for line in text.splitlines() for part in line.split("&&"))
        split = (shlex.join(shlex.split(part, comments=True)) for part in parts)
        return [line for line in split if line]


def pages() -> list[Path]:
    """Every page, the README first."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if path.exists()]


def blocks(path: Path) -> list[Block]:
    """The blocks of a page in order."""
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["marker"] or "",
            (match["words"] or "").strip(),
        )
        for match in _BLOCK.finditer(text)
    ]


def command_lines() -> Iterator[tuple[str, str]]:
    """(place, command line) of every command that is not marked as not run."""
    for path in pages():
        for block in blocks(path):
            if block.is_shell and block.marker != "not run":
                yield from ((block.place, line) for line in block.lines)


def inline_commands() -> Iterator[tuple[str, str]]:
    """(page, command line) of whole commands inside sentences."""
    for path in pages():
        for match in _INLINE.finditer(path.read_text(encoding="utf-8")):
            line = match.group(1)
            if "..." not in line and not re.search(r"=(\s|$)|[A-Z]{3}|<", line):
                yield path.relative_to(ROOT).as_posix(), line
