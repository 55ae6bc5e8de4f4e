"""Which problems episodes plan: drawn once from models and hardware, then again under budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from remora.envs.joint.arrays import Tables
from remora.envs.joint.problem_tables import ProblemTables
from remora.envs.joint.stacking import stack
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware, HardwareState
from remora.schedule.costs import CostTable
from remora.schedule.problem import OptimizerSpec, Problem
from remora.simulator.records import CostModel

__all__ = ["BudgetDraw", "JointSampler", "ProblemTest", "draw_problems"]

ProblemTest = Callable[[ProblemTables, int], bool]
"""Whether a problem under a budget in bytes is worth an episode."""

_MOST_DRAWS = 20


@dataclass(frozen=True, slots=True)
class BudgetDraw:
    """How budgets are drawn, as shares of the way from least memory to keeping everything.

    Attributes:
        low, high: most budgets are between them; 0 is what recomputation alone reaches.
        elsewhere: share of the budgets that are anywhere from 0 to 1.
    """

    low: float = 0.02
    high: float = 0.4
    elsewhere: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high:
            raise InvalidInputError(
                f"budgets are drawn from {self.low} to {self.high}; allowed: 0 <= low <= high"
            )
        if not 0.0 <= self.elsewhere <= 1.0:
            raise InvalidInputError(f"elsewhere is {self.elsewhere}; allowed: 0 to 1")

    def share(self, generator: np.random.Generator) -> float:
        """Draw one."""
        if generator.random() < self.elsewhere:
            return float(generator.random())
        return float(generator.uniform(self.low, self.high))


class JointSampler:
    """Draws a problem and a budget.

    Args:
        problems: what may be planned.
        budgets: how budgets are drawn.
        keep: test that a drawn episode must pass; after 20 refusals the last one is played.

    Raises:
        InvalidInputError: there is no problem, or two have the same name.
    """

    def __init__(
        self,
        problems: Sequence[ProblemTables],
        budgets: BudgetDraw | None = None,
        keep: ProblemTest | None = None,
    ) -> None:
        if not problems:
            raise InvalidInputError("problems is empty; allowed: at least one problem")
        names = [problem.name for problem in problems]
        if len(set(names)) < len(names):
            raise InvalidInputError(f"problems are named {', '.join(names)}; allowed: each once")
        self.problems = tuple(problems)
        self._budgets = budgets or BudgetDraw()
        self._keep = keep

    @cached_property
    def tables(self) -> Tables:
        """Tables of all problems, shared by the environments that draw from here."""
        return stack(self.problems)

    def sample(self, generator: np.random.Generator) -> tuple[int, int]:
        """Draw the index of a problem and a budget in bytes."""
        for _ in range(_MOST_DRAWS):
            index = int(generator.integers(len(self.problems)))
            problem = self.problems[index]
            budget = _within_free(problem, problem.budget_bytes(self._budgets.share(generator)))
            if self._keep is None or self._keep(problem, budget):
                break
        return index, budget

    def find(self, name: str, share: float) -> tuple[int, int]:
        """Index and budget of a problem at ``range:share``.

        Raises:
            InvalidInputError: no problem has that name.
        """
        for index, problem in enumerate(self.problems):
            if problem.name == name:
                return index, problem.budget_bytes(share)
        names = ", ".join(problem.name for problem in self.problems)
        raise InvalidInputError(f"problem is {name!r}; allowed: {names}")


def draw_problems(
    models: Mapping[str, Mapping[int, ModelGraph]],
    hardware: Sequence[Hardware],
    costs: Callable[[ModelGraph, Hardware], CostTable],
    optimizer: OptimizerSpec,
    count: int,
    seed: int,
    cost_model: CostModel | None = None,
) -> tuple[ProblemTables, ...]:
    """Draw problems of one device.

    Free memory is half to all of what a new device has, the rate of the host link 30 to 100 % of
    the nominal one; half of the problems fix the number of micro-batches. A draw that does not
    fit into its free memory is drawn again.

    Args:
        models: graphs by number of micro-batches, by name; every batch size is one model.
        hardware: devices.
        costs: of a graph on a device.
        optimizer: what it keeps.
        count: how many.
        seed: of the draws.
        cost_model: predicts finished plans; None for the simulator with these costs.

    Raises:
        InvalidInputError: hardly any model fits any hardware.
    """
    generator = np.random.default_rng(seed)
    names = sorted(models)
    found: list[ProblemTables] = []
    for _ in range(_MOST_DRAWS * count):
        if len(found) == count:
            break
        name = names[int(generator.integers(len(names)))]
        device = _worn(hardware[int(generator.integers(len(hardware)))], generator)
        graphs = models[name]
        fixed = int(generator.choice(sorted(graphs))) if generator.random() < 0.5 else None
        problem = Problem(
            graphs,
            {number: costs(graph, device) for number, graph in graphs.items()},
            device,
            optimizer,
            device.free_memory_bytes,
            micro_batches=fixed,
        )
        label = f"{name}/{device.name}/{len(found)}"
        tables = ProblemTables(label, problem, cost_model)
        if tables.least_bytes <= device.free_memory_bytes:
            found.append(tables)
    if len(found) < count:
        raise InvalidInputError(
            f"count is {count} and {len(found)} of the drawn problems fit into free memory; "
            "allowed: models and hardware that go together"
        )
    return tuple(found)


def _worn(hardware: Hardware, generator: np.random.Generator) -> Hardware:
    state = HardwareState(
        free_memory_bytes=int(generator.uniform(0.5, 1.0) * hardware.free_memory_bytes),
        host_link_share=float(generator.uniform(0.3, 1.0)),
        link_share=float(generator.uniform(0.3, 1.0)),
    )
    return replace(hardware, state=state)


def _within_free(problem: ProblemTables, budget: int) -> int:
    return max(min(budget, problem.problem.hardware.free_memory_bytes), problem.least_bytes)
