"""How ranks are shared out: pipeline ranks x tensor degree x replicas = world size."""

from __future__ import annotations

from remora.errors import InvalidInputError
from remora.hardware.hardware import Hardware

__all__ = ["check_world", "divisors"]


def divisors(number: int) -> tuple[int, ...]:
    """Divisors of a number of at least 1, ascending."""
    return tuple(d for d in range(1, number + 1) if number % d == 0)


def check_world(world_size: int, degree: int, replicas: int | None, hardware: Hardware) -> None:
    """Refuse a tensor degree and a number of replicas that ranks cannot be shared out to.

    Args:
        world_size: number of ranks.
        degree: ranks that share every layer.
        replicas: data-parallel replicas, or None for any.
        hardware: a group of tensor ranks lies on one node or fills several.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    if degree == 1 and replicas is None:
        return
    node = hardware.devices_per_node
    fitting = [d for d in divisors(world_size) if node % d == 0 or d % node == 0]
    if degree not in fitting:
        raise InvalidInputError(
            f"tensor.degree is {degree} with world_size={world_size} on nodes of {node}; "
            f"allowed: {', '.join(map(str, fitting))}"
        )
    groups = world_size // degree
    if replicas is not None and (replicas < 1 or groups % replicas):
        raise InvalidInputError(
            f"replicas is {replicas} with world_size={world_size} and tensor.degree={degree}; "
            f"allowed: {', '.join(map(str, divisors(groups)))}"
        )
