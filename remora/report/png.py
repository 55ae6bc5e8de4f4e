"""Pictures as PNG files: timeline with memory, and the Pareto front of a budget sweep."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from remora.report.colours import BUDGET_COLOUR, INSTRUCTION_COLOURS, MEMORY_COLOURS
from remora.simulator.timeline import MemorySample, Timeline

__all__ = ["pareto_png", "timeline_png"]


def timeline_png(timeline: Timeline, budget_bytes: int) -> bytes:
    """Draw the instructions of every rank and stream above the memory of the fullest rank.

    Args:
        timeline: simulated or measured run.
        budget_bytes: drawn as a dashed line.

    Returns:
        The PNG file.
    """
    rows = sorted({_row(event.instruction) for event in timeline.events})
    figure = _figure(10, 4 + 0.35 * len(rows))
    above, below = figure.subplots(
        2, 1, sharex=True, height_ratios=(1 + 0.35 * len(rows), 3), squeeze=True
    )
    _draw_instructions(above, timeline, rows)
    fullest = max(range(len(timeline.peak_bytes)), key=lambda rank: timeline.peak_bytes[rank])
    _draw_memory(below, timeline.memory[fullest], budget_bytes)
    return _png(figure)


def pareto_png(points: Sequence[tuple[int, float]], lower_bounds: Sequence[float]) -> bytes:
    """Draw step time over memory budget.

    Args:
        points: (budget in bytes, step time in seconds), by rising budget.  # [num_points]
        lower_bounds: seconds that no schedule beats, one per point.  # [num_points]
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    budgets = [budget / 2**30 for budget, _ in points]
    axes.step(budgets, [time_s * 1e3 for _, time_s in points], "o-", where="post", label="plan")
    axes.plot(budgets, [bound * 1e3 for bound in lower_bounds], "k:", label="lower bound")
    axes.set_xlabel("memory budget (GiB)")
    axes.set_ylabel("step time (ms)")
    axes.legend()
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    # Without pyplot there is no global state and no need for a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_instructions(axes: Any, timeline: Timeline, rows: Sequence[str]) -> None:
    labelled = set()
    for event in timeline.events:
        kind = event.instruction.kind
        axes.barh(
            rows.index(_row(event.instruction)),
            (event.end_s - event.start_s) * 1e3,
            left=event.start_s * 1e3,
            color=INSTRUCTION_COLOURS[kind],
            edgecolor="white",
            linewidth=0.3,
            label=None if kind in labelled else str(kind),
        )
        labelled.add(kind)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.legend(ncols=6, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)


def _draw_memory(axes: Any, samples: Sequence[MemorySample], budget_bytes: int) -> None:
    times = [sample.time_s * 1e3 for sample in samples]
    kinds = [k for k in MEMORY_COLOURS if any(sample.by_kind.get(k) for sample in samples)]
    axes.stackplot(
        times,
        [[sample.by_kind.get(kind, 0) / 2**30 for sample in samples] for kind in kinds],
        labels=[str(kind) for kind in kinds],
        colors=[MEMORY_COLOURS[kind] for kind in kinds],
        step="post",
    )
    axes.axhline(budget_bytes / 2**30, color=BUDGET_COLOUR, linestyle="--", label="budget")
    axes.set_xlabel("ms")
    axes.set_ylabel("GiB")
    axes.legend(
        ncols=8, fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.2), frameon=False
    )


def _row(instruction: Any) -> str:
    return f"rank {instruction.rank} {instruction.stream}"


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
