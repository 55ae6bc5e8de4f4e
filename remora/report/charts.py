"""Charts as files for papers: the Pareto front of a budget sweep, and the units of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from remora.report.rendering import new_figure, rendered
from remora.report.unit_bars import full_bytes, looks_of
from remora.report.unit_choice import UnitChoice
from remora.report.wording import bytes_scale

__all__ = ["front_drawing", "unit_drawing"]

_MAX_WIDTH = 22.0


def front_drawing(
    points: Sequence[tuple[int, float]],
    lower_bounds: Sequence[float],
    run_name: str = "step",
    form: str = "png",
) -> bytes:
    """Draw step time over memory budget.

    Args:
        points: (budget in bytes, step time in seconds), by rising budget.  # [num_points]
        lower_bounds: seconds that no schedule beats, one per point.  # [num_points]
        run_name: what takes these seconds, a step or a pass.
        form: one of :data:`~remora.report.rendering.FORMS`.
    """
    figure = new_figure(7, 4.5)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    budgets = [budget / 2**30 for budget, _ in points]
    axes.step(budgets, [time_s * 1e3 for _, time_s in points], "o-", where="post", label="plan")
    axes.plot(budgets, [bound * 1e3 for bound in lower_bounds], "k:", label="lower bound")
    axes.set_xlabel("memory budget (GiB)")
    axes.set_ylabel(f"{run_name} time (ms)")
    axes.legend()
    return rendered(figure, form)


def unit_drawing(choices: Sequence[UnitChoice], form: str = "png") -> bytes:
    """Draw what every unit would hold, in the colour of what happens to it.

    Args:
        choices: all units.
        form: one of :data:`~remora.report.rendering.FORMS`.
    """
    figure = new_figure(max(7.0, min(_MAX_WIDTH, 0.16 * len(choices))), 3.2)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    size, unit = bytes_scale(max((full_bytes(choice) for choice in choices), default=0))
    for name, colour, hatch, places in looks_of(choices):
        heights = [full_bytes(choices[i]) / size for i in places]
        axes.bar(
            list(places), heights, 0.85, label=name, color=colour, hatch=hatch, edgecolor="white"
        )
    axes.set_xlabel("unit")
    axes.set_ylabel(f"held if all is kept ({unit})")
    if choices:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(frameon=False, fontsize=8, ncols=len(axes.containers), **place)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return rendered(figure, form)
