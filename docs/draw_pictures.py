"""Draw the pictures of the documentation as SVG: ``python -m docs.draw_pictures [FOLDER]``.

The curves are simulated plans and the pipelines are the orders that run, so what a picture shows is
what the program does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import torch

import remora
from examples.own_model import Classifier, cross_entropy
from remora.schedule.orders import pipeline_order
from remora.schedule.orders.order import Order, TaskKind
from remora.schedule.schedule import PipelineKind
from remora.simulator.timeline import Timeline

FOLDER = Path(__file__).parent / "pictures"
KEEP, RECOMPUTE, OFFLOAD, GREY, INK = "#2f6db3", "#d98324", "#4c9a52", "#b8bec7", "#22272e"
DARK_GREY = "#7a828c"
BATCH, WIDTH, DEPTH = 4096, 128, 8
_COLOURS = {
    TaskKind.FORWARD: KEEP,
    TaskKind.BACKWARD: RECOMPUTE,
    TaskKind.BACKWARD_INPUT: RECOMPUTE,
    TaskKind.BACKWARD_WEIGHT: OFFLOAD,
}
_SECONDS = {
    TaskKind.FORWARD: 1,
    TaskKind.BACKWARD: 2,
    TaskKind.BACKWARD_INPUT: 1,
    TaskKind.BACKWARD_WEIGHT: 1,
}


def main(folder: Path = FOLDER) -> tuple[Path, ...]:
    """Draw every picture and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "memory": memory_curves(),
        "options": unit_options(),
        "groups": nested_groups(),
        "pipelines": pipelines(),
        "budget": budget_line(),
    }
    paths = []
    for name, text in pictures.items():
        paths.append(folder / f"{name}.svg")
        paths[-1].write_text(text, encoding="utf-8")
    return tuple(paths)


def memory_curves() -> str:
    """Memory over one step, with everything kept and under a plan."""
    plan = _plan("range:0.3")
    curves = ((plan.keep_all_timeline, DARK_GREY, "keep all"), (plan.timeline, KEEP, "the plan"))
    end_s = max(timeline.step_time_s for timeline, _, _ in curves)
    top = 1.12 * max(timeline.max_peak_bytes for timeline, _, _ in curves)
    width, height, left, bottom = 640, 250, 50, 215

    def place(time_s: float, level_bytes: float) -> tuple[int, int]:
        right = width - left - 20
        return left + round(right * time_s / end_s), bottom - round(185 * level_bytes / top)

    parts = [_line(left, bottom, width - 10, bottom), _line(left, 20, left, bottom)]
    for timeline, colour, _ in curves:
        parts.append(_polyline(_steps(timeline, place), colour))
    _, budget = place(0, plan.budget_bytes)
    parts.append(_line(left, budget, width - 10, budget, "#c0392b", dash=True))
    parts.append(_text(width - 12, budget - 6, "memory budget", "#c0392b", "end"))
    for number, (timeline, colour, name) in enumerate(curves):
        words = f"{name}: {1e3 * timeline.step_time_s:.1f} ms a step"
        parts.append(_text(left + 12, 34 + 18 * number, words, colour))
    parts.append(_text(left - 6, 16, "memory", anchor="middle"))
    parts.append(_text(width - 12, height - 14, "time: forward, then backward", anchor="end"))
    return _svg(width, height, "Memory of a step with everything kept, and under a plan", parts)


def unit_options() -> str:
    """A chain of units, and what becomes of the tensors that each one saves."""
    names = ("keep", "recompute", "offload", "part kept, part recomputed", "keep")
    colours = (KEEP, RECOMPUTE, OFFLOAD, RECOMPUTE, KEEP)
    parts = [_text(10, 24, "units of the model, in order"), _text(10, 126, "saved for backward")]
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x = 10 + 126 * index
        parts.append(_box(x, 36, 104, 40, GREY, f"unit {index}"))
        if index < len(names) - 1:
            parts.append(_arrow(x + 104, 56, x + 126, 56))
        halves = (colour, colour) if index != 3 else (KEEP, RECOMPUTE)
        for half, shade in enumerate(halves):
            hollow = shade == RECOMPUTE
            parts.append(_box(x + 4 + 50 * half, 138, 44, 26, shade, "", hollow))
        parts.append(_text(x + 52, 186, name.split(",")[0], colour, "middle"))
        parts.append(_text(x + 52, 203, name.partition(", ")[2], colour, "middle"))
    parts.append(_text(10, 236, "boundary tensors pass along the arrows; hollow: not in memory"))
    return _svg(650, 250, "Units, and what their options do with saved tensors", parts)


def nested_groups() -> str:
    """Two levels of recompute groups over eight units."""
    parts = [_text(10, 22, "a group is recomputed from its first input; groups nest")]
    for index in range(8):
        parts.append(_box(20 + 74 * index, 40, 60, 34, GREY, f"unit {index}"))
    for level, (first, last, name) in enumerate(
        ((1, 6, "group 1-6: one checkpoint"), (3, 5, "inside it, group 3-5: another one"))
    ):
        x, y = 16 + 74 * first, 92 + 44 * level
        parts.append(_box(x, y, 74 * (last - first) + 68, 30, RECOMPUTE, name, hollow=True))
        parts.append(f'<circle cx="{x}" cy="{y + 15}" r="6" fill="{KEEP}"/>')
    parts.append(_text(10, 200, "dots: tensors that stay; units 0 and 7 are kept", KEEP))
    return _svg(640, 215, "Nested recompute groups", parts)


def pipelines() -> str:
    """Who works on which micro-batch when: four ranks, eight micro-batches, three kinds."""
    kinds = ((PipelineKind.GPIPE, 1), (PipelineKind.ONE_F_ONE_B, 1), (PipelineKind.ZERO_BUBBLE, 2))
    parts, y = [], 10
    for kind, chunks in kinds:
        order = pipeline_order(kind, 4, 8, chunks)
        tasks, makespan = _replay(order, 1 / chunks)
        parts.append(_text(10, y + 12, f"{kind.value}: {makespan:g} units of time"))
        for rank, start, end, task, micro_batch in tasks:
            x, width = 10 + round(17 * start), round(17 * end) - round(17 * start)
            parts.append(_box(x, y + 20 + 20 * rank, width, 18, _COLOURS[task], str(micro_batch)))
        y += 118
    legend = "blue: forward; orange: backward, or its half for the input; green: for the weights"
    parts.append(_text(10, y + 12, legend))
    return _svg(640, y + 26, "Pipelines of four ranks with eight micro-batches", parts)


def budget_line() -> str:
    """What range:0 to range:1 mean, and the fastest plans between them."""
    shares = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
    plans = [_plan(f"range:{share}") for share in shares]
    slowest_s = max(plan.estimate.step_time_s for plan in plans)
    fastest_s = min(plan.lower_bound_s for plan in plans)
    span_s = 1.1 * (slowest_s - fastest_s)

    def place(share: float, time_s: float) -> tuple[int, int]:
        return 60 + round(520 * share), 200 - round(150 * (time_s - fastest_s) / span_s)

    parts = [_line(60, 205, 600, 205), _line(60, 20, 60, 205)]
    rows = list(zip(shares, plans, strict=True))
    found = [place(share, plan.estimate.step_time_s) for share, plan in rows]
    bound = [place(share, plan.lower_bound_s) for share, plan in rows]
    parts += [_polyline(bound, OFFLOAD), _polyline(found, KEEP)]
    parts += [f'<circle cx="{x}" cy="{y}" r="4" fill="{KEEP}"/>' for x, y in found]
    parts.append(_text(330, 60, "step time of the plan", KEEP))
    parts.append(_text(330, 80, "lower bound: no plan is faster", OFFLOAD))
    parts.append(_text(60, 222, "range:0, least by recomputation", anchor="start"))
    parts.append(_text(600, 222, "range:1, keep all", anchor="end"))
    parts.append(_text(54, 14, "step time", anchor="start"))
    return _svg(640, 236, "Budgets between the least peak and that of keeping all", parts)


def _plan(memory: str) -> remora.Plan:
    torch.manual_seed(0)
    inputs = (torch.randn(BATCH, WIDTH),)
    return remora.optimize(
        Classifier(WIDTH, DEPTH), inputs, memory, loss=cross_entropy, hardware="laptop_8g",
        cost_model="roofline", agent="greedy",
    )  # fmt: skip


def _steps(timeline: Timeline, place: object) -> list[tuple[int, int]]:
    assert callable(place)
    points: list[tuple[int, int]] = []
    for sample in timeline.memory[0]:
        if points:
            points.append((place(sample.time_s, 0)[0], points[-1][1]))
        points.append(place(sample.time_s, sample.level_bytes))
    points.append((place(timeline.step_time_s, 0)[0], points[-1][1]))
    return points


def _replay(
    order: Order, share: float
) -> tuple[list[tuple[int, float, float, TaskKind, int]], float]:
    """Run an order with equal stages and free messages: (rank, start, end, kind, micro-batch)."""
    ended: dict[tuple[bool, int, int], float] = {}
    left = [order.tasks_of(rank) for rank in range(order.num_ranks)]
    free = [0.0] * order.num_ranks
    drawn = []
    while any(left):
        for rank, tasks in enumerate(left):
            while tasks and _needs(tasks[0], order.num_stages) <= ended.keys():
                task, stage, micro_batch = tasks.pop(0)
                needed = _needs((task, stage, micro_batch), order.num_stages)
                start = max([free[rank], *(ended[need] for need in needed)])
                free[rank] = start + share * _SECONDS[task]
                if task is not TaskKind.BACKWARD_WEIGHT:
                    ended[task is TaskKind.FORWARD, stage, micro_batch] = free[rank]
                drawn.append((rank, start, free[rank], task, micro_batch))
    return drawn, max(free)


def _needs(task: tuple[TaskKind, int, int], num_stages: int) -> set[tuple[bool, int, int]]:
    kind, stage, micro_batch = task
    if kind is TaskKind.FORWARD:
        return {(True, stage - 1, micro_batch)} if stage else set()
    if kind is TaskKind.BACKWARD_WEIGHT:
        return {(False, stage, micro_batch)}
    later = {(False, stage + 1, micro_batch)} if stage < num_stages - 1 else set()
    return {(True, stage, micro_batch)} | later


def _svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="sans-serif" font-size="13">'
    )
    white = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", white, *parts, "</svg>"]) + "\n"


def _box(
    x: int, y: int, width: int, height: int, colour: str, words: str, hollow: bool = False
) -> str:
    fill = "white" if hollow else colour
    dash = ' stroke-dasharray="4 3"' if hollow else ""
    box = (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="{fill}" '
        f'stroke="{colour if hollow else "white"}"{dash}/>'
    )
    ink = colour if hollow else "white" if colour != GREY else INK
    size = 13 if height > 20 else 10
    middle = _text(x + width // 2, y + height // 2 + size // 3 + 1, words, ink, "middle", size)
    return box + middle if words else box


def _text(
    x: int, y: int, words: str, colour: str = INK, anchor: str = "start", size: int = 13
) -> str:
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def _line(x: int, y: int, to_x: int, to_y: int, colour: str = INK, dash: bool = False) -> str:
    style = ' stroke-dasharray="6 4"' if dash else ""
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}"{style}/>'


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    tip = f'<path d="M{to_x} {to_y} l-7 -4 v8 z" fill="{INK}"/>'
    return _line(x, y, to_x - 6, to_y) + tip


def _polyline(points: Sequence[tuple[int, int]], colour: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
