"""Rules of the state part of a schedule."""

from __future__ import annotations

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.schedule.parameters import StaticStorages
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement, Schedule, StatePlan

__all__ = ["check_host", "check_state_of_graph", "check_state_plan"]

_ALLOWED = {
    "weights": (Placement.DEVICE, Placement.HOST),
    "gradients": (Placement.DEVICE, Placement.HOST),
    "optimizer": (Placement.DEVICE, Placement.HOST, Placement.EIGHT_BIT),
}
_LAST_ZERO_STAGE = 3


def check_state_plan(problem: Problem, schedule: Schedule) -> None:
    """Check placements, sharding and streamed units.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    state = schedule.state
    if problem.state_on_device and state != StatePlan():
        raise InvalidInputError(
            f"state is {_words(state)}; allowed here: everything on the device, unsharded "
            "(state_on_device is true)"
        )
    _check_placements(state)
    _check_zero(problem, schedule)
    if not problem.graph.forward_only:
        _check_with_optimizer(state)
        _check_optimizer(problem, state)
    elif state.weights is Placement.HOST:
        check_host(problem, "state.weights is 'host'", "'device'")
    _check_streamed(problem.graph, problem.chain.statics, state)


def check_state_of_graph(graph: ModelGraph, state: StatePlan) -> None:
    """Check what can be checked without hardware and optimizer.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    _check_placements(state)
    if not graph.forward_only:
        _check_with_optimizer(state)
    _check_streamed(graph, StaticStorages(graph, 1), state)


def _check_placements(state: StatePlan) -> None:
    for field, allowed in _ALLOWED.items():
        placement: Placement = getattr(state, field)
        if placement not in allowed:
            raise InvalidInputError(
                f"state.{field} is {placement.value!r}; allowed: "
                f"{', '.join(repr(place.value) for place in allowed)}"
            )


def check_host(problem: Problem, what: str, allowed: str) -> None:
    """Refuse to move anything to a host that is the same memory, or over a dead link.

    Raises:
        InvalidInputError: the hardware cannot hold it, or its link has no bandwidth.
    """
    hardware = problem.hardware
    if not hardware.can_offload:
        raise InvalidInputError(
            f"{what}, but hardware {hardware.name!r} has host.pool={hardware.host.pool!r} and "
            f"one memory for host and device; allowed: {allowed}"
        )
    for where, rates in (("hardware.host", hardware.host), ("costs", problem.cost)):
        for field in ("d2h_bytes_per_s", "h2d_bytes_per_s"):
            rate: float = getattr(rates, field)
            if not rate > 0:
                raise InvalidInputError(
                    f"{what}, but {where}.{field} is {rate:g}; allowed: a number above 0"
                )


def _check_zero(problem: Problem, schedule: Schedule) -> None:
    stage = schedule.state.zero_stage
    replicas = problem.num_groups // schedule.pipeline.num_ranks
    if stage not in range(_LAST_ZERO_STAGE + 1):
        raise InvalidInputError(f"state.zero_stage is {stage!r}; allowed: 0, 1, 2, 3")
    if stage and replicas == 1:
        raise InvalidInputError(
            f"state.zero_stage is {stage} with one replica (world_size={problem.world_size}, "
            f"{schedule.pipeline.num_ranks} ranks in the pipeline); allowed: 0"
        )


def _check_with_optimizer(state: StatePlan) -> None:
    on_host = state.optimizer is Placement.HOST
    for field in ("weights", "gradients"):
        if getattr(state, field) is Placement.HOST and not on_host:
            raise InvalidInputError(
                f"state.{field} is 'host' with state.optimizer={state.optimizer.value!r}; "
                "allowed with state.optimizer='host' only, since the step runs where they are"
            )


def _check_optimizer(problem: Problem, state: StatePlan) -> None:
    spec = problem.optimizer
    if state.optimizer is Placement.HOST:
        check_host(problem, "state.optimizer is 'host'", "'device', '8bit'")
    if state.optimizer is Placement.DEVICE or spec.counted:
        quantised = state.optimizer is Placement.EIGHT_BIT
        if not quantised or (spec.state_per_parameter and not spec.master_weights):
            return
    raise InvalidInputError(
        f"state.optimizer is {state.optimizer.value!r} with optimizer={spec.name!r}, which has "
        "no state of that kind; allowed: 'device'"
    )


def _check_streamed(graph: ModelGraph, statics: StaticStorages, state: StatePlan) -> None:
    units = state.streamed_units
    streamed = state.weights is Placement.HOST
    if streamed != bool(units):
        raise InvalidInputError(
            f"state.streamed_units is {list(units)} with state.weights={state.weights.value!r}; "
            "allowed: some units with 'host', none with 'device'"
        )
    if list(units) != sorted({u for u in units if 0 <= u < len(graph.units)}):
        raise InvalidInputError(
            f"state.streamed_units is {list(units)}; allowed: ascending indices from 0 to "
            f"{len(graph.units) - 1}"
        )
    if streamed and state.zero_stage > 1:
        raise InvalidInputError(
            f"state.zero_stage is {state.zero_stage} with state.weights='host'; allowed: 0, 1"
        )
    for unit in units:
        if not statics.weights_of((unit,)):
            raise InvalidInputError(
                f"state.streamed_units holds {unit}, a unit without weights; allowed: units "
                "with weights"
            )


def _words(state: StatePlan) -> str:
    return (
        f"weights {state.weights.value!r}, gradients {state.gradients.value!r}, optimizer "
        f"{state.optimizer.value!r}, zero_stage {state.zero_stage}"
    )
