"""The table of units: what could happen to each, what does, and why."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from remora.report.unit_choice import Alternative, Effect, UnitChoice, reason
from remora.report.wording import bytes_text, duration_text

__all__ = ["choice_table"]

_COLUMNS = {
    "keep": "keep",
    "recompute": "recompute",
    "offload": "offload to the host",
    "mixed": "a mixture",
}
_PASS_COLUMNS = {
    "keep": "on the device",
    "offload": "waits on the host",
    "mixed": "weights or cache waits there",
}


def choice_table(choices: Sequence[UnitChoice], step_time_s: float, in_pass: bool = False) -> str:
    """Return the table as HTML.

    Args:
        choices: all units.
        step_time_s: of the plan.
        in_pass: choices are about weights and caches of inference.
    """
    names = _PASS_COLUMNS if in_pass else _COLUMNS
    families = {a.family for choice in choices for a in choice.alternatives}
    columns = {family: name for family, name in names.items() if family in families}
    titles = ("unit", "name", "what happens", *columns.values(), "why")
    head = "".join(f"<th>{escape(name)}</th>" for name in titles)
    rows = "".join(
        _row(choice, list(columns), step_time_s) + _more_row(choice, len(titles))
        for choice in choices
    )
    return (
        '<div class="scroll tall"><table class="units"><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(choice: UnitChoice, columns: Sequence[str], step_time_s: float) -> str:
    groups = f" (units {', in '.join(reversed(choice.groups))})" if choice.groups else ""
    cells = "".join(_family_cell(choice, family) for family in columns)
    return (
        f"<tr><td>{choice.index}</td><td>{escape(choice.name)}</td>"
        f"<td>{escape(choice.action + groups)}</td>{cells}"
        f'<td class="why">{_why(choice, step_time_s)}</td></tr>'
    )


def _family_cell(choice: UnitChoice, family: str) -> str:
    own = [a for a in choice.alternatives if a.family == family]
    taken = next((a for a in own if a.taken), None)
    shown = taken or min(own, key=lambda a: a.time_s + a.copy_s, default=None)
    if shown is None:
        return "<td>-</td>"
    look = "pair taken" if taken else "pair"
    lines = "<br>".join(f"<span>{escape(line)}</span>" for line in _price(shown))
    return f'<td class="{look}">{lines}</td>'


def _price(alternative: Alternative) -> list[str]:
    """Bytes held, seconds of compute, and seconds of copies, one per line."""
    lines = [f"{bytes_text(alternative.held_bytes)} held"]
    if alternative.time_s > 0:
        lines.append(f"+{duration_text(alternative.time_s)}")
    if alternative.copy_s > 0:
        lines.append(f"copies {duration_text(alternative.copy_s)}")
    return lines


def _why(choice: UnitChoice, step_time_s: float) -> str:
    text = escape(reason(choice, step_time_s))
    if len(choice.alternatives) < 2:
        return text
    return (
        f'{text} <button type="button" class="more" aria-expanded="false" '
        f'aria-controls="options-{choice.index}">all {len(choice.alternatives)} options</button>'
    )


def _more_row(choice: UnitChoice, num_columns: int) -> str:
    """Every option with all its figures, shown when asked for."""
    if len(choice.alternatives) < 2:
        return ""
    heads = ("option", "held", "compute", "copied", "copies take", "whole step", "peak")
    head = "".join(f"<th>{name}</th>" for name in heads)
    rows = "".join(_alternative_row(a) for a in choice.alternatives)
    return (
        f'<tr id="options-{choice.index}" class="options" hidden><td></td>'
        f'<td colspan="{num_columns - 1}"><table><tr>{head}</tr>{rows}</table></td></tr>'
    )


def _alternative_row(a: Alternative) -> str:
    cells = (
        f"{a.name} (taken)" if a.taken else a.name,
        bytes_text(a.held_bytes),
        f"+{duration_text(a.time_s)}",
        bytes_text(a.moved_bytes) if a.moved_bytes else "-",
        duration_text(a.copy_s) if a.copy_s else "-",
        *_effect_cells(a.effect),
    )
    look = ' class="chosen"' if a.taken else ""
    return f"<tr{look}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _effect_cells(effect: Effect | None) -> tuple[str, str]:
    if effect is None:
        return "-", "-"
    sign = "-" if effect.more_s < 0 else "+"
    change = "-" if effect.more_bytes < 0 else "+"
    fits = " (over budget)" if effect.over_bytes > 0 else ""
    return (
        f"{sign}{duration_text(abs(effect.more_s))}",
        f"{change}{bytes_text(abs(effect.more_bytes))}{fits}",
    )
