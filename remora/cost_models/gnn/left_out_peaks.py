"""Peaks as they are predicted of a family that nothing was learned from: what a bound has to cover.

What peaks depend on and traces do not show is the workspace of operators. Of a graph whose sisters
were learned from it is known better than of one of a new family, so bounds that are calibrated on
the first cover too few of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remora.cost_models.dataset.families import CALIBRATION
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.gnn.op_encoder import UnitEncoder
from remora.cost_models.gnn.op_examples import UnitExample, unit_examples
from remora.cost_models.gnn.op_workspace import fit_workspace, graph_workspace_bytes
from remora.cost_models.gnn.step_examples import StepExample
from remora.cost_models.gnn.step_features import encoder_of

__all__ = ["left_out_peaks"]


def left_out_peaks(
    runs: Sequence[ProfiledRun],
    examples: Sequence[StepExample],
    seed: int,
    encoder: UnitEncoder | None = None,
) -> list[StepExample]:
    """Simulate steps again, with workspaces learned without their families.

    Networks for calibration stand for no architecture: all workspaces are learned with them, and
    their own steps are not among the result.

    Args:
        runs: with measured units.
        examples: measured steps of these runs.
        seed: of weights and draws.
        encoder: remembers units that were encoded before; None encodes all of them.

    Returns:
        The steps of all families; ``examples`` as they are if there is one family only, or nothing
        is left to learn workspaces from without one.
    """
    families = sorted({example.family for example in examples} - {CALIBRATION})
    encoder = encoder or UnitEncoder()
    units = unit_examples(runs, encoder)
    found: list[StepExample] = []
    for family in families if len(families) > 1 else ():
        others = _others(runs, units, family)
        if not others:
            return list(examples)
        own = [example for example in examples if example.family == family]
        found += _with_workspaces_of(others, own, seed, encoder)
    return found or list(examples)


def _others(
    runs: Sequence[ProfiledRun], units: Sequence[UnitExample], family: str
) -> list[UnitExample]:
    """Units of kinds that do not occur in a family."""
    graphs = [run.graph for run in runs if run.subject.family == family]
    kinds = {unit.kind for graph in graphs for unit in graph.units}
    return [unit for unit in units if unit.kind not in kinds]


def _with_workspaces_of(
    units: Sequence[UnitExample], examples: Sequence[StepExample], seed: int, encoder: UnitEncoder
) -> list[StepExample]:
    """Simulate steps with workspaces that are learned from some units."""
    names = sorted({name for unit in units for name in unit.features.names})
    network = fit_workspace(units, names, seed)
    found: list[StepExample] = []
    by_problem: dict[int, list[StepExample]] = {}
    for example in examples:
        by_problem.setdefault(id(example.problem), []).append(example)
    for group in by_problem.values():
        problem = group[0].problem
        kinds = encoder.kinds(problem.graph, problem.hardware)
        workspace = graph_workspace_bytes(network, names, problem.graph, kinds)  # [num_ops]
        costs = replace(problem.cost, op_workspace_bytes=tuple(workspace.tolist()))
        told = replace(problem, costs={1: costs})
        encoded = encoder_of(told).encode([example.schedule for example in group])
        found += [
            replace(example, problem=told, encoded=encoded.one(place))
            for place, example in enumerate(group)
        ]
    return found
