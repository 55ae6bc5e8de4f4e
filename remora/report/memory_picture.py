"""The memory picture: bytes of every rank over time, stacked by kind, under the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remora.report.colours import BUDGET_COLOUR, MEMORY_COLOURS
from remora.report.curves import kinds_held, thinned, top_of_scale, whole_step
from remora.report.wording import bytes_scale, bytes_text, kind_text, time_scale
from remora.schedule.program import MemoryKind
from remora.simulator.timeline import Timeline

__all__ = ["draw_memory", "memory_handles"]

_SLOTS = 1000


def draw_memory(
    axes: Any,
    timeline: Timeline,
    rank: int,
    budget_bytes: int,
    measured: Timeline | None = None,
) -> None:
    """Draw the memory of one rank.

    Args:
        axes: Matplotlib axes; all ranks of a run get the same scale.
        timeline: simulated or measured run.
        rank: whose memory.
        budget_bytes: drawn as a dashed line.
        measured: real run, drawn as a solid line.
    """
    from matplotlib.patheffects import withStroke

    runs = [timeline] if measured is None else [timeline, measured]
    longest_s = max(run.step_time_s for run in runs)
    factor, _ = time_scale(longest_s)
    highest = max(run.max_peak_bytes for run in runs)
    top_bytes, in_sight = top_of_scale(highest, budget_bytes)
    size, unit = bytes_scale(top_bytes)
    samples = whole_step(timeline.memory[rank], timeline.step_time_s, _SLOTS)
    kinds = kinds_held(samples)
    if kinds:
        axes.stackplot(
            [sample.time_s * factor for sample in samples],
            [[sample.by_kind.get(kind, 0) / size for sample in samples] for kind in kinds],
            colors=[MEMORY_COLOURS[kind] for kind in kinds],
            step="post",
            linewidth=0,
        )
    if measured is not None and rank < len(measured.memory):
        level = thinned(measured.memory[rank], measured.step_time_s, _SLOTS)
        axes.step(
            [sample.time_s * factor for sample in level],
            [sample.level_bytes / size for sample in level],
            where="post",
            color=BUDGET_COLOUR,
            linewidth=1,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )
    if in_sight:
        line = axes.axhline(budget_bytes / size, color=BUDGET_COLOUR, linestyle="--", linewidth=1.2)
        # A white rim keeps it visible on dark colours.
        line.set_path_effects([withStroke(linewidth=2.8, foreground="white")])
    axes.set_xlim(0, longest_s * factor or 1.0)
    axes.set_ylim(0, top_bytes / size or 1.0)
    axes.set_ylabel(unit, fontsize=8)
    axes.tick_params(labelsize=8)
    peak = bytes_text(timeline.peak_bytes[rank])
    axes.set_title(f"rank {rank}: peak {peak}", fontsize=8.5, loc="left", pad=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def memory_handles(
    timeline: Timeline,
    ranks: Sequence[int],
    budget_bytes: int,
    measured: Timeline | None = None,
) -> list[Any]:
    """Return a patch for every kind of memory that occurs, and the lines that are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds: list[MemoryKind] = kinds_held(s for rank in ranks for s in timeline.memory[rank])
    handles: list[Any] = [
        Patch(facecolor=MEMORY_COLOURS[kind], label=kind_text(kind)) for kind in kinds
    ]
    label = f"budget {bytes_text(budget_bytes)}"
    if not top_of_scale(timeline.max_peak_bytes, budget_bytes)[1]:
        label += " (above the picture)"
    handles.append(Line2D([], [], color=BUDGET_COLOUR, linestyle="--", label=label))
    if measured is not None:
        handles.append(Line2D([], [], color=BUDGET_COLOUR, label="measured"))
    return handles
