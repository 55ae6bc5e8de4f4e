"""The chain of units of a problem as the recompute-only chain that rotor solves."""

from __future__ import annotations

from remora.agents.exact.chains.rotor_chain import Chain as RotorChain
from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.problem import Problem

__all__ = ["rotor_chain"]


def rotor_chain(problem: Problem) -> RotorChain:
    """Map units to stages; times in seconds, sizes in bytes.

    What a chain cannot say is rounded to it: a tensor that skips units counts as part of every
    boundary it is read from, parameter gradients and resident memory are not in it, and a unit
    that cannot be recomputed gets a forward so slow that no plan runs it twice if another one
    fits. So a plan is replayed in the simulator before anyone trusts it.
    """
    chain = problem.chain
    units = chain.units
    whole_s = sum(unit.forward_s + unit.backward_s for unit in units)
    never_again_s = 1000 * whole_s + 1.0
    boundary = [0, *(chain.input_bytes(unit.index) for unit in units[1:]), 0]
    saved = [_saved_bytes(chain, unit) for unit in units]
    forward_workspace, backward_workspace = [], []
    for unit in units:
        forward = chain.transient_bytes(range(*unit.forward), unit, _lasting(chain, unit), ())
        backward = chain.transient_bytes(range(*unit.backward), unit, _gradients(chain, unit), ())
        both_gradients = boundary[unit.index] + boundary[unit.index + 1]
        forward_workspace.append(max(0, forward - saved[unit.index]))
        backward_workspace.append(max(0, backward - both_gradients))
    return RotorChain(
        forward_time=[never_again_s if unit.fixed else unit.forward_s for unit in units],
        backward_time=[unit.backward_s for unit in units],
        boundary_size=boundary,
        saved_size=saved,
        forward_workspace=forward_workspace,
        backward_workspace=backward_workspace,
    )


def _gradients(chain: Chain, unit: ChainUnit) -> frozenset[int]:
    """Gradients of weights, which stay."""
    storages = chain.graph.storages
    return frozenset(s for s in unit.created_backward if storages[s].role == GRADIENT)


def _lasting(chain: Chain, unit: ChainUnit) -> frozenset[int]:
    """Activations made by ``unit`` that it saves or that the next unit reads."""
    made = set(unit.created)
    read = _read_by_next(chain, unit)
    return frozenset(made & (read | {saved.storage for saved in unit.saved}))


def _read_by_next(chain: Chain, unit: ChainUnit) -> set[int]:
    """Activations that the unit after ``unit`` reads; none for the last one."""
    following = chain.units[unit.index + 1 : unit.index + 2]
    return {storage for other in following for storage in other.inputs}


def _saved_bytes(chain: Chain, unit: ChainUnit) -> int:
    return sum(chain.num_bytes(storage) for storage in _lasting(chain, unit))
