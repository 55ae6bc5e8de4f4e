"""A bound for the recompute-only chain problem, where each stage reads the stage before it.

The steps of any schedule fall into phases: phase i ends where the backward of stage i begins, the
first one holds the forward. For every phase there are shares, from 0 to 1, of the saved set of
each earlier stage that is in memory at its end, of the boundary held by itself as checkpoint, and
of a forward of the stage within the phase. In a schedule all of them are 0 or 1, and

- what is in memory at the end was there before the phase, or a forward of the phase made it;
- a forward needs its input: held before the phase, or made in it;
- what is held for later backwards stays until then;
- at the end of phase i the stage's saved set, its input, both gradients, the workspace and
  whatever else is held are within the budget.

So the linear program that asks for the least time of all forwards bounds every schedule from
below. (The phases follow Checkmate, Jain et al. 2020.)

Letters: L stages; stage i reads boundary i and writes boundary i + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from remora.simulator.bounds.linear_program import LinearProgram

__all__ = ["RecomputeChain", "chain_lower_bound"]

# A shortage of memory below this part of the budget counts as none.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class RecomputeChain:
    """A chain of stages; times and sizes in any unit.

    Attributes:
        forward_time, backward_time: of every stage.  # [L]
        boundary_size: of the input of every stage, then of the last output.  # [L + 1]
        saved_size: what a stage saves for its backward, its output included.  # [L]
        backward_workspace: extra memory while a backward runs.  # [L]
    """

    forward_time: Sequence[float]
    backward_time: Sequence[float]
    boundary_size: Sequence[float]
    saved_size: Sequence[float]
    backward_workspace: Sequence[float]

    @property
    def num_stages(self) -> int:
        """Number of stages, L."""
        return len(self.forward_time)

    @property
    def ideal_time(self) -> float:
        """Time without recomputation."""
        return sum(self.forward_time) + sum(self.backward_time)


def chain_lower_bound(chain: RecomputeChain, budget: float) -> float:
    """A time that no schedule of the chain goes below within a memory budget.

    Checkpoints, once taken, stay until the backward that uses them.

    Args:
        chain: stages.
        budget: memory, in the unit of the chain's sizes.

    Returns:
        the bound; infinite if the program has no solution, so that nothing fits.
    """
    program = _Phases(chain, budget, elastic=False).program
    again = max(0.0, program.lower_bound())
    if program.unsolved:
        missing = _Phases(chain, budget, elastic=True).program.lower_bound()
        if missing > _TOLERANCE:
            return math.inf
    return chain.ideal_time * (1 + again)


class _Phases:
    """The program; with ``elastic`` it asks for the least memory missing, in parts of the budget.

    Otherwise for the time of all forwards after the first, in parts of the ideal time.
    """

    def __init__(self, chain: RecomputeChain, budget: float, elastic: bool) -> None:
        self.program = LinearProgram()
        self._chain = chain
        self._budget = budget
        self._missing = self.program.variable(upper=_most(chain, budget), cost=1.0)
        if not elastic:
            self.program.at_least([(self._missing, -1.0)], 0.0)
        self._unit = math.inf if elastic else chain.ideal_time or 1.0
        self._saved: dict[tuple[int, int], int] = {}
        self._checkpoint: dict[tuple[int, int], int] = {}
        self._forward: dict[tuple[int, int], int] = {}
        for phase in range(chain.num_stages - 1, -1, -1):
            self._add_phase(phase)

    def _add_phase(self, phase: int) -> None:
        first = phase == self._chain.num_stages - 1
        for stage in range(phase + 1):
            place = stage, phase
            self._saved[place] = self.program.variable()
            if stage:
                self._checkpoint[place] = self.program.variable()
            if not first:
                cost = self._chain.forward_time[stage] / self._unit
                self._forward[place] = self.program.variable(cost=cost)
                self._add_sources(stage, phase)
        self._add_memory(phase)

    def _add_sources(self, stage: int, phase: int) -> None:
        """What is there, was there or was made; what is there for later stays."""
        before, place = (stage, phase + 1), (stage, phase)
        saved, forward = self._saved[place], self._forward[place]
        self.program.at_least([(self._saved[before], 1), (forward, 1), (saved, -1)], 0)
        self.program.at_least([(saved, 1), (self._saved[before], -1)], 0)
        if not stage:
            return
        checkpoint = self._checkpoint[place]
        sources = [
            (self._checkpoint[before], 1.0),
            (self._saved[stage - 1, phase + 1], 1.0),
            (self._forward[stage - 1, phase], 1.0),
        ]
        self.program.at_least([*sources, (checkpoint, -1)], 0)
        self.program.at_least([*sources, (forward, -1)], 0)
        self.program.at_least([(checkpoint, 1), (self._checkpoint[before], -1)], 0)

    def _add_memory(self, phase: int) -> None:
        """The level while the backward of stage ``phase`` runs."""
        chain, boundary = self._chain, self._chain.boundary_size
        self.program.at_least([(self._saved[phase, phase], 1)], 1)
        if phase:
            inputs = [(self._checkpoint[phase, phase], 1.0), (self._saved[phase - 1, phase], 1.0)]
            self.program.at_least(inputs, 1)
        gradients = boundary[phase] + boundary[phase + 1]
        always = boundary[0] + gradients + chain.backward_workspace[phase]
        held = [(self._saved[s, phase], -chain.saved_size[s]) for s in range(phase + 1)]
        held += [(self._checkpoint[s, phase], -boundary[s]) for s in range(1, phase + 1)]
        held.append((self._missing, self._budget or 1.0))
        self.program.at_least(held, always - self._budget)


def _most(chain: RecomputeChain, budget: float) -> float:
    """More than can be missing, in parts of the budget."""
    total = sum(chain.saved_size) + 3 * sum(chain.boundary_size) + sum(chain.backward_workspace)
    return 1.0 + total / (budget or 1.0)
