"""Hooks of the documentation site: files of the repository become pages, and links to them hold.

Pages under ``docs/`` link to ``../benchmarks`` and ``../examples``, which is right for somebody who
reads them in the repository. On the site the same files are pages too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from remora.cli.help import COMMANDS, overview

ROOT = Path(__file__).parents[2]
TEXTS = ("benchmarks/results/*.md", "benchmarks/profiled_runs/README.md", "*.md")
PICTURES = ("benchmarks/results/*.png", "docs/*.png", "docs/pictures/*.svg")
CODE = ("examples/*.py",)
SITE_README = "README.md"

_CODES = (
    "Exit codes: 0 done, 1 a bug of Remora, 2 wrong usage or file, 3 nothing fits, 4 verification "
    "failed, 5 the model failed or a run died, 6 time limit without an answer, 130 interrupted."
)

_FETCHED = re.compile(
    r'<(?:script|img|iframe|link rel="stylesheet")[^>]*? (?:src|href)="(https?:[^"]*)"'
)
_LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's results, examples and rules, and the help of all commands, as pages."""
    files.append(File.generated(config, "reference/command_line.md", content=_command_line()))
    for pattern in (*TEXTS, *PICTURES, *CODE):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if path.name == SITE_README or name.startswith("docs/"):
                continue
            if path.suffix == ".py":
                content = f"# {path.stem}\n\n```python\n{path.read_text()}```\n"
                files.append(File.generated(config, f"{name}.md", content=content))
            else:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    readme = ROOT / "benchmarks/profiled_runs/README.md"
    if readme.exists():
        target = "benchmarks/profiled_runs.md"
        files.append(File.generated(config, target, abs_src_path=str(readme)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    source = page.file.src_uri
    in_docs = (Path(config.docs_dir) / source).exists()
    folder = posixpath.dirname(f"docs/{source}" if in_docs else source)
    if source == "benchmarks/profiled_runs.md":
        folder = "benchmarks/profiled_runs"

    def site_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match.group(1)))
        place = _place(target, files)
        if place is None:
            return match.group(0)
        link = posixpath.relpath(place, posixpath.dirname(source) or ".")
        return f"]({link}{match.group(2) or ''})"

    return _LINK.sub(site_link, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse a page that would fetch something from elsewhere when it is opened."""
    for match in _FETCHED.finditer(output):
        raise PluginError(f"{page.file.src_uri} fetches {match.group(1)}; allowed: own files")
    return output


def _command_line() -> str:
    """The help of every command, from the table that ``--help`` prints."""
    parts = ["# Command line", f"```text\n{overview()}\n```", _CODES]
    for name, command in COMMANDS.items():
        parts.append(f"## remora {name}\n\n{command.summary[0].upper()}{command.summary[1:]}.")
        rows = [f"| `{key}=` | {text} |" for key, text in command.keys.items()]
        if rows:
            parts.append("\n".join(["| key | |", "|---|---|", *rows]))
        parts.append(f"```bash\n{command.example}\n```")
    return "\n\n".join(parts) + "\n"


def _place(target: str, files: Files) -> str | None:
    """Where a file of the repository lies on the site; None if it is no page."""
    if target == "README.md":
        return "index.md"
    if target == "benchmarks/profiled_runs/README.md":
        return "benchmarks/profiled_runs.md"
    for name in (target.removeprefix("docs/"), f"{target}.md", target):
        if files.get_file_from_path(name) is not None:
            return name
    return None
