"""The state of the hardware that a plan is for: read here, given by the user, or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from remora.api.budget import BudgetKind, parse_budget
from remora.api.records import record
from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware, HardwareState
from remora.schedule.problem import Problem

__all__ = ["GivenState", "StateLike", "find_state", "given_state", "in_state"]

StateLike = HardwareState | Mapping[str, Any] | None
"""A whole state, or some of ``free_memory``, ``host_link_share`` and ``link_share``."""

_FIELD = "hardware.state"


@dataclass(frozen=True, slots=True)
class GivenState:
    """What the user says about the state of the hardware; None leaves a field as it is.

    Attributes:
        free_memory: of one device: bytes, ``"6GiB"``, or a share of all of it as ``"75%"``.
        host_link_share: of the nominal rate of host copies, above 0 and up to 1.
        link_share: the same of the links between devices.
    """

    free_memory: int | str | None = None
    host_link_share: float | None = None
    link_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no hardware could have."""
        for name in ("host_link_share", "link_share"):
            share = getattr(self, name)
            if share is not None and not _is_share(share):
                raise InvalidInputError(
                    f"{_FIELD}.{name} is {share!r}, allowed: a number above 0 and up to 1"
                )


def given_state(state: StateLike) -> GivenState:
    """Read what the user says.

    Raises:
        UnknownNameError: a key that is none of the three.
        InvalidInputError: a share that is not above 0 and up to 1.
    """
    if isinstance(state, HardwareState):
        return GivenState(state.free_memory_bytes, state.host_link_share, state.link_share)
    return record(GivenState, _FIELD, state or {})


def find_state(hardware: Hardware, state: StateLike, live: bool, again: bool = False) -> Hardware:
    """Return the hardware in the state that is to be planned for.

    Args:
        hardware: its own state holds where nothing else is said.
        state: what the user says; goes before all else.
        live: whether it is the machine at hand, whose state is read now.
        again: measure its links anew, if they were measured in this process before.

    Raises:
        UsageError: see :func:`given_state`, or more free memory than there is.
    """
    given = given_state(state)
    if live:
        from remora.hardware.live import live_state

        hardware = replace(hardware, state=live_state(hardware, again))
    if given == GivenState():
        return hardware
    base = hardware.state or HardwareState(hardware.free_memory_bytes)
    free, host_share, link_share = given.free_memory, given.host_link_share, given.link_share
    found = HardwareState(
        base.free_memory_bytes if free is None else _free_bytes(free, hardware.memory_bytes),
        base.host_link_share if host_share is None else host_share,
        base.link_share if link_share is None else link_share,
    )
    return replace(hardware, state=found)


def in_state(problem: Problem, hardware: Hardware) -> Problem:
    """Return the same problem on its hardware in another state.

    Host copies stand in the cost tables with the share that held when they were made; work on the
    device does not depend on the state.

    Args:
        problem: its budget stays.
        hardware: that of the problem, in another state.
    """
    factor = _host_share(hardware) / _host_share(problem.hardware)
    costs = {
        count: replace(
            table,
            d2h_bytes_per_s=table.d2h_bytes_per_s * factor,
            h2d_bytes_per_s=table.h2d_bytes_per_s * factor,
        )
        for count, table in problem.costs.items()
    }
    return replace(problem, hardware=hardware, costs=costs)


def _host_share(hardware: Hardware) -> float:
    return 1.0 if hardware.state is None else hardware.state.host_link_share


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _free_bytes(value: int | str, memory_bytes: int) -> int:
    try:
        budget = parse_budget(value)
    except InvalidInputError:
        budget = None
    if budget is not None and budget.kind is BudgetKind.BYTES and budget.value <= memory_bytes:
        return int(budget.value)
    if budget is not None and budget.kind is BudgetKind.SHARE and budget.value <= 1:
        return int(budget.value * memory_bytes)
    raise InvalidInputError(
        f"{_FIELD}.free_memory is {value!r}, allowed: bytes such as 6GiB, or a share of the "
        f"device's memory such as 75%, up to {memory_bytes} bytes"
    )
