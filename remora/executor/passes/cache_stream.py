"""Keys and values that wait on the host: brought in for their unit, and written back after it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remora.executor.memory.host_pool import HostBlock
from remora.executor.memory.mover import Event, Mover

__all__ = ["CacheLayer", "CacheStream", "find_cache"]

CacheLayer = tuple[int, bool]
"""Number of an attention layer, and whether it reads the output of an encoder."""

_TENSORS = ("keys", "values")


def find_cache(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a model, by the shape of the transformers library's."""
    for value in (*args, *kwargs.values()):
        layered = isinstance(getattr(value, "layers", None), list)
        paired = hasattr(value, "self_attention_cache")
        if (layered or paired) and not isinstance(value, nn.Module):
            return value
    return None


class CacheStream:
    """Keeps the cache of some units on the host between their uses.

    Tokens lie one after the other on the host, so that only those that a pass adds are written.

    Args:
        layers: attention layers by unit.
        mover: issues the copies; its pool gives the memory.
        device: where the model runs.
        window: what a unit added is waited for so many units later.
    """

    def __init__(
        self,
        layers: Mapping[int, Sequence[CacheLayer]],
        mover: Mover,
        device: torch.device,
        window: int,
    ) -> None:
        self._layers = layers
        self._mover = mover
        self._device = device
        self._window = window
        self._cache: Any = None
        self._present: dict[int, list[Event]] = {}
        self._running = -1
        self._leaving: list[tuple[int, Tensor, Event]] = []
        self._known: weakref.WeakKeyDictionary[Any, dict[str, _OnHost]] = (
            weakref.WeakKeyDictionary()
        )

    def attach(self, cache: Any) -> None:
        """Note which cache the pass that begins reads and extends; None for none."""
        self._cache = cache

    def use(self, unit: int, following: Iterable[int]) -> None:
        """Bring in the cache of a unit that is about to run, and ask for those after it."""
        self._running = unit
        for wanted in (unit, *following):
            if wanted in self._layers and wanted not in self._present:
                self._present[wanted] = [event for event in self._fetch(wanted)]
        for event in self._present.get(unit, ()):
            self._mover.wait(event)
        self._leaving = [entry for entry in self._leaving if not self._gone(entry)]

    def leave(self, following: int) -> None:
        """Write back what the unit that ran last added, unless it runs again."""
        if self._running != following:
            self._store(self._running)

    def finish(self) -> None:
        """Write everything back that is on the device."""
        for unit in sorted(self._present):
            self._store(unit)
        self._running, self._cache = -1, None

    def close(self) -> None:
        """Bring everything back that is on the host."""
        for _, _, event in self._leaving:
            self._mover.wait(event)
        self._leaving = []
        self._mover.finish()
        for layer, parts in list(self._known.items()):
            for name, part in parts.items():
                if getattr(layer, name) is part.view:
                    setattr(layer, name, part.view.to(self._device, copy=True).contiguous())
                part.give_back()
        self._known.clear()

    def _gone(self, entry: tuple[int, Tensor, Event]) -> bool:
        """Wait for what the units before the window added."""
        unit, _, event = entry
        over = not unit < self._running < unit + self._window
        if over:
            self._mover.wait(event)
        return over

    def _of_unit(self, unit: int) -> Iterator[Any]:
        """Layers of the attached cache that hold keys and values of a unit."""
        for number, cross in self._layers.get(unit, ()):
            part = self._cache
            if hasattr(part, "self_attention_cache"):
                part = part.cross_attention_cache if cross else part.self_attention_cache
            layers = getattr(part, "layers", ())
            if number < len(layers):
                yield layers[number]

    def _fetch(self, unit: int) -> Iterator[Event]:
        for layer in self._of_unit(unit):
            for name in _TENSORS:
                content = getattr(layer, name, None)
                part = self._known.get(layer, {}).get(name)
                if not isinstance(content, Tensor) or part is None:
                    continue
                if content is part.view:
                    tensor, event = part.load(self._device)
                    setattr(layer, name, tensor)
                    yield event
                else:
                    # Somebody put another one in its place, to reorder it or to cut it off.
                    setattr(layer, name, content.to(self._device))
                    part.forget()

    def _store(self, unit: int) -> None:
        if self._present.pop(unit, None) is None:
            return
        for layer in self._of_unit(unit):
            for name in _TENSORS:
                content = getattr(layer, name, None)
                if not isinstance(content, Tensor) or content.dim() != 4 or not content.numel():
                    continue
                parts = self._known.setdefault(layer, {})
                part = parts.setdefault(name, _OnHost(self._mover))
                if getattr(layer, "is_sliding", False):
                    part.forget()
                kept, event = part.store(content)
                self._leaving.append((unit, kept, event))
                setattr(layer, name, part.view)


class _OnHost:
    """One tensor of keys or values, ``[batch, heads, tokens, width]``, token by token on the host.

    Attributes:
        view: it, as the cache has it while it is on the host.
    """

    def __init__(self, mover: Mover) -> None:
        self.view = torch.empty(0)
        self._mover = mover
        self._block: HostBlock | None = None
        self._tokens = 0
        self._written: Event = None

    def forget(self) -> None:
        """Write all of it the next time."""
        self._tokens = 0

    def give_back(self) -> None:
        """Give up the memory on the host."""
        if self._block is not None:
            self._mover.pool.give_back(self._block)
            self._block = None

    def store(self, tensor: Tensor) -> tuple[Tensor, Event]:
        """Issue the copy of the tokens that are new.

        Args:
            tensor: all of it.  # [batch, heads, tokens, width]

        Returns:
            what has to stay on the device until the copy is done, and its event.
        """
        batch, heads, tokens, width = tensor.shape
        first = self._tokens if self._tokens < tokens else 0
        row_bytes = batch * heads * width * tensor.element_size()
        memory = self._room(tokens * row_bytes, first * row_bytes)
        rows = memory[: tokens * row_bytes].view(tensor.dtype).view(tokens, batch, heads, width)
        added = tensor[:, :, first:].permute(2, 0, 1, 3).contiguous()
        self._written = self._mover.store(rows[first:], added)
        self._tokens = tokens
        self.view = rows.permute(1, 2, 0, 3)
        return added, self._written

    def load(self, device: torch.device) -> tuple[Tensor, Event]:
        """Take memory on the device and issue the copy of all tokens into it."""
        self._mover.wait(self._written)
        rows = self.view.permute(2, 0, 1, 3)
        there = torch.empty(rows.shape, dtype=rows.dtype, device=device)
        event = self._mover.load(there, rows)
        return there.permute(1, 2, 0, 3), event

    def _room(self, num_bytes: int, kept_bytes: int) -> Tensor:
        """Host memory of so many bytes with the first ones as they were."""
        if self._block is not None and self._block.memory.numel() >= num_bytes:
            return self._block.memory
        old = self._block
        self._block = self._mover.pool.acquire(num_bytes if old is None else 2 * num_bytes)
        if old is not None:
            self._mover.finish()
            self._block.memory[:kept_bytes].copy_(old.memory[:kept_bytes])
            self._mover.pool.give_back(old)
        return self._block.memory
