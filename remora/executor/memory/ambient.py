"""Random state and the modes under which operators run, so that a replay can have them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Ambient", "RandomState", "current_ambient", "random_state", "random_state_of", "under"]


@dataclass(frozen=True, slots=True)
class RandomState:
    """State of the CPU generator and of one CUDA generator.

    The bytes are kept as NumPy arrays, which PyTorch's allocator does not count as live memory of
    the model.

    Attributes:
        cpu: uint8, state of the CPU generator.  # [state_bytes]
        cuda: uint8, state of the device's generator; None without CUDA.  # [state_bytes]
        device: the CUDA device; None without CUDA.
    """

    cpu: np.ndarray[Any, np.dtype[np.uint8]]
    cuda: np.ndarray[Any, np.dtype[np.uint8]] | None
    device: torch.device | None

    def restore(self) -> None:
        """Make this the current state."""
        torch.set_rng_state(torch.from_numpy(self.cpu.copy()))
        if self.cuda is not None and self.device is not None:
            torch.cuda.set_rng_state(torch.from_numpy(self.cuda.copy()), self.device)


def random_state(device: torch.device) -> RandomState:
    """Return the current state of the CPU generator and, on CUDA, of the device's."""
    cpu = torch.get_rng_state().numpy().copy()
    if device.type != "cuda":
        return RandomState(cpu, None, None)
    return RandomState(cpu, torch.cuda.get_rng_state(device).numpy().copy(), device)


@contextlib.contextmanager
def random_state_of(state: RandomState, device: torch.device) -> Iterator[None]:
    """Run under ``state`` and put the present random state back afterwards."""
    before = random_state(device)
    state.restore()
    try:
        yield
    finally:
        before.restore()


@dataclass(frozen=True, slots=True)
class Ambient:
    """Modes of the thread that change what an operator does.

    Attributes:
        grad: whether gradients are recorded.
        autocast: (enabled, dtype) for the CPU and for the device's type if it is another.
        cache: whether autocast keeps the casts of weights.
    """

    grad: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    cache: bool


def current_ambient(device_type: str) -> Ambient:
    """Return the modes of the calling thread.

    Args:
        device_type: ``cpu`` or ``cuda``.
    """
    types = ("cpu",) if device_type == "cpu" else ("cpu", device_type)
    return Ambient(
        grad=torch.is_grad_enabled(),
        autocast=tuple(
            (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in types
        ),
        cache=torch.is_autocast_cache_enabled(),
    )


@contextlib.contextmanager
def under(ambient: Ambient) -> Iterator[None]:
    """Run under the modes of ``ambient``; modes that already hold are left alone."""
    with contextlib.ExitStack() as stack:
        if torch.is_grad_enabled() != ambient.grad:
            stack.enter_context(torch.set_grad_enabled(ambient.grad))
        for kind, enabled, dtype in ambient.autocast:
            now = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            if now != (enabled, dtype) and (enabled or now[0]):
                stack.enter_context(
                    torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=ambient.cache)
                )
        yield
