"""Compare pipeline kinds for a model before renting the machine, without running anything.

Run `python examples/pipeline_on_paper.py [FOLDER]`; files go to FOLDER (default
`outputs/pipeline_on_paper`): a table, a picture of the fastest kind, and its timeline for Perfetto.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from examples.own_model import Classifier, cross_entropy
from remora.api.hardware import find_hardware
from remora.cost_models.roofline import roofline_costs
from remora.errors import InvalidInputError
from remora.graph.trace import trace
from remora.report.drawings import timeline_drawing
from remora.report.perfetto import timeline_to_perfetto
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule, StatePlan
from remora.simulator.shares import bubble_share
from remora.simulator.simulate import simulate

RANKS, MICRO_BATCHES, BATCH = 4, 8, 8192
CHUNKS = {
    PipelineKind.INTERLEAVED: 2,
    PipelineKind.ZERO_BUBBLE: 2,
    PipelineKind.DUALPIPE_V: 2,
}


def state_problem() -> Problem:
    """Trace the model at the sizes that the schedules need, with costs of a node of A100s."""
    model = Classifier(width=1024, depth=15)
    hardware = find_hardware("4xa100")
    graphs = {
        count: trace(model, (torch.empty(BATCH // count, 1024),), cross_entropy)
        for count in (1, MICRO_BATCHES)
    }
    return Problem(
        graphs=graphs,
        costs={count: roofline_costs(graph, hardware) for count, graph in graphs.items()},
        hardware=hardware,
        optimizer=OPTIMIZERS["adamw"],
        budget_bytes=hardware.free_memory_bytes,
        world_size=RANKS,
    )


def schedule_of(problem: Problem, kind: PipelineKind) -> Schedule:
    """Stages of equally many units, everything kept."""
    chunks = CHUNKS.get(kind, 1)
    units, stages = len(problem.graph.units), RANKS * chunks
    cuts = tuple(stage * units // stages for stage in range(1, stages))
    keep = keep_all_schedule(problem.graph)
    return Schedule(keep.graph_hash, keep.memory, PipelinePlan(kind, cuts, chunks, MICRO_BATCHES))


def replicated(problem: Problem) -> Schedule:
    """Four replicas with sharded state, for comparison: each works on a batch of its own."""
    keep = keep_all_schedule(problem.graph)
    pipeline = PipelinePlan(micro_batches=MICRO_BATCHES)
    return Schedule(keep.graph_hash, keep.memory, pipeline, StatePlan(zero_stage=3))


def main(folder: Path) -> None:
    """Print the table and write the files."""
    problem = state_problem()
    schedules = {kind.value: schedule_of(problem, kind) for kind in PipelineKind}
    del schedules[PipelineKind.NONE.value]
    schedules["4 replicas, ZeRO 3"] = replicated(problem)
    timelines = {}
    print(f"{'':20} {'step':>10} {'idle':>7} {'fullest rank':>13}")
    for name, schedule in schedules.items():
        try:
            timeline = timelines[name] = simulate(problem, schedule)
        except InvalidInputError as error:
            print(f"{name:20} {error}")
            continue
        step_ms, peak_gib = timeline.step_time_s * 1e3, timeline.max_peak_bytes / 2**30
        print(f"{name:20} {step_ms:7.2f} ms {bubble_share(timeline):7.1%} {peak_gib:9.2f} GiB")
    kinds = [name for name in timelines if "replicas" not in name]
    fastest = min(kinds, key=lambda name: timelines[name].step_time_s)
    folder.mkdir(parents=True, exist_ok=True)
    names = [unit.name for unit in problem.graph.units]
    trace_events = timeline_to_perfetto(timelines[fastest], names)
    (folder / "timeline.json").write_text(json.dumps(trace_events))
    (folder / "timeline.png").write_bytes(
        timeline_drawing(timelines[fastest], problem.budget_bytes)
    )
    print(f"fastest: {fastest}; {folder}: timeline.json, timeline.png")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "outputs/pipeline_on_paper"
    main(Path(chosen))
