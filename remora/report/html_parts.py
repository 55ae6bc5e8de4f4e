"""Pieces of HTML, and the frame of a page that carries its library, style and scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from remora.report.colours import DARK_COLOURS

__all__ = ["Tile", "drawing", "note", "page", "paragraphs", "section", "table", "tiles", "words"]

_SCRIPTS = ("base.js", "gantt.js", "memory.js", "page.js")
_NUMBER_STARTS = "+-0123456789"


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the top of the page.

    Attributes:
        what: the figure's name.
        figure: the figure.
        beside: what to compare it with.
        look: ``good``, ``bad``, or empty.
        share: length of a bar under it, 0 to 1; None for no bar.
    """

    what: str
    figure: str
    beside: str = ""
    look: str = ""
    share: float | None = None


def tiles(shown: Iterable[Tile]) -> str:
    """Return the figures side by side."""
    return f'<div class="tiles">{"".join(map(_tile, shown))}</div>'


def _tile(tile: Tile) -> str:
    width = 0.0 if tile.share is None else 100 * min(1.0, max(0.0, tile.share))
    meter = f'<div class="meter"><div style="width:{width:.1f}%"></div></div>'
    return (
        f'<div class="tile {tile.look}"><div class="what">{escape(tile.what)}</div>'
        f'<div class="figure">{escape(tile.figure)}</div>{"" if tile.share is None else meter}'
        f'<div class="beside">{escape(tile.beside)}</div></div>'
    )


def section(name: str, heading: str, *content: str) -> str:
    """Return a part of the page; its content is HTML, its heading is not."""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{"".join(content)}</section>'


def words(groups: Mapping[str, Sequence[str]]) -> str:
    """Return sentences beside what they answer."""
    rows = (
        f"<dt>{escape(name)}</dt><dd>{paragraphs(sentences)}</dd>"
        for name, sentences in groups.items()
    )
    return f'<dl class="words">{"".join(rows)}</dl>'


def paragraphs(sentences: Iterable[str]) -> str:
    """Return one paragraph per sentence."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def note(text: str) -> str:
    """Return a remark on what stands beside it."""
    return f'<p class="note">{escape(text)}</p>'


def drawing(classes: str = "drawing") -> str:
    """Return controls, legend, and the place of a picture."""
    return f'<div class="controls"></div><div class="legend"></div><div class="{classes}"></div>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    looks: Sequence[str] = (),
    tall: bool = False,
) -> str:
    """Return a table of plain cells; columns of figures are aligned to the right.

    Args:
        header: one text per column.
        rows: one text per column and row.
        looks: class of every row; empty for none.
        tall: may be so long that it scrolls by itself.
    """
    cells = [tuple(row) for row in rows]
    numeric = [_is_numeric([row[i] for row in cells]) for i in range(len(header))]
    head = "".join(_cell("th", text, numeric[i]) for i, text in enumerate(header))
    body = "".join(
        f'<tr class="{looks[i] if looks else ""}">'
        + "".join(_cell("td", text, numeric[j]) for j, text in enumerate(row))
        + "</tr>"
        for i, row in enumerate(cells)
    )
    classes = "scroll tall" if tall else "scroll"
    return (
        f'<div class="{classes}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_numeric(column: Sequence[str]) -> bool:
    return any(column) and all(not text or text[0] in _NUMBER_STARTS for text in column)


def _cell(tag: str, text: str, numeric: bool) -> str:
    attribute = ' class="number"' if numeric else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"


def page(title: str, head: str, sections: Sequence[tuple[str, str, str]], data: Any) -> str:
    """Return a whole page that opens without any other file.

    Args:
        title: of the page.
        head: HTML above the sections.
        sections: (id, heading, HTML) of every part.
        data: what its scripts draw, for JSON.
    """
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    body = "\n".join(section(*part) for part in sections)
    # A name with "</script>" or "<!--" in it must not end or change the script.
    values = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    scripts = "\n".join(_resource(name) for name in _SCRIPTS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_resource("page.css")}
{_dark_rules()}</style>
<script>{_resource("plotly-basic.min.js")}</script>
</head>
<body>
<header><h1>{escape(title)}</h1><button type="button" id="theme" class="theme"></button></header>
<nav>{links}</nav>
{head}
{body}
<script>
{scripts}
drawAll({values});
</script>
</body>
</html>
"""


def _dark_rules() -> str:
    """Colours that cannot be seen on a dark ground are others there."""
    dark = ':root[data-theme="dark"]'
    names = "".join(f" --kind-{kind}: {colour};" for kind, colour in DARK_COLOURS.items())
    fills = "".join(
        f"{dark} .trace{kind} path.js-fill {{ fill: {colour} !important; }}\n"
        f"{dark} .trace{kind} .point path {{ fill: {colour} !important; }}\n"
        f"{dark} .trace{kind} path.js-line {{ stroke: {colour} !important; }}\n"
        for kind, colour in DARK_COLOURS.items()
    )
    return f"{dark} {{{names} }}\n{fills}"


def _resource(name: str) -> str:
    return (files("remora.report") / "page" / name).read_text(encoding="utf-8")
