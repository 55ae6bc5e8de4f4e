"""Weights that wait on the host: brought in for every use, and gone after it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.executor.memory.host_pool import HostBlock
from remora.executor.memory.layout import bytes_of, layout_of
from remora.executor.memory.mover import Event, Mover

__all__ = ["StreamedStorage", "WeightStream"]


class StreamedStorage:
    """The storage of a weight, on the host and, between :meth:`fetch` and :meth:`release`, here.

    The storage object stays the same while its memory comes and goes, so whatever autograd saved
    of the weight is right again once the memory is there.

    Args:
        name: of its weight.
        storage: of the model.
        mover: issues the copies.
    """

    def __init__(self, name: str, storage: torch.UntypedStorage, mover: Mover) -> None:
        if not storage.resizable():
            raise InvalidInputError(
                f"weight {name!r} lies in memory that PyTorch did not allocate, so it cannot wait "
                "on the host; allowed: weights that were copied after loading"
            )
        self._storage = storage
        self._num_bytes = storage.nbytes()
        self._mover = mover
        self._users = 0
        self._arrived: Event = None
        self._block: HostBlock
        self._block, written = mover.to_host(bytes_of(storage))
        mover.wait(written)
        storage.resize_(0)

    @property
    def host_bytes(self) -> Tensor:
        """Its bytes on the host, uint8 ``[num_bytes]``."""
        return self._block.content

    @property
    def present(self) -> bool:
        """Whether it has memory on the device."""
        return self._storage.nbytes() == self._num_bytes

    def fetch(self) -> None:
        """Take memory and issue the copy from the host, unless another user has done so."""
        self._users += 1
        if self._users == 1:
            self._storage.resize_(self._num_bytes)
            self._arrived = self._mover.load(bytes_of(self._storage), self._block.content)

    def wait(self) -> None:
        """Let what comes next on the device wait until it is there."""
        self._mover.wait(self._arrived)

    def release(self) -> None:
        """Give the memory up after the last user."""
        self._users -= 1
        if self._users == 0:
            self.wait()
            self._storage.resize_(0)

    def write_back(self) -> None:
        """Copy it to the host, which somebody who changed it on the device has to do."""
        self._mover.wait(self._mover.store(self._block.content, bytes_of(self._storage)))

    def close(self) -> None:
        """Let it stay on the device and give up the memory on the host."""
        if self._users == 0:
            self.fetch()
        self.wait()
        self._mover.finish()
        self._mover.pool.give_back(self._block)


class WeightStream:
    """Brings weights in one unit ahead of their use.

    The weights of a unit are asked for where the unit before it starts; their memory is taken there
    and given up after the use. The points are those of :mod:`remora.schedule.weight_fetch`.

    Args:
        storages: by unit, what it reads of the weights that wait on the host.
    """

    def __init__(self, storages: Mapping[int, Sequence[StreamedStorage]]) -> None:
        self._storages = storages
        self._present: set[int] = set()
        self._running = -1

    def use(self, unit: int, following: Iterable[int]) -> None:
        """Bring in the weights of a unit that is about to run, and ask for those after it.

        Args:
            unit: about to run.
            following: units that run after it, as far as they are known and asked for now.
        """
        self._running = unit
        for wanted in (unit, *following):
            if wanted not in self._present:
                self._present.add(wanted)
                for storage in self._storages.get(wanted, ()):
                    storage.fetch()
        for storage in self._storages.get(unit, ()):
            storage.wait()

    def leave(self, following: int | None) -> None:
        """Give up the weights of the unit that ran last, unless it runs again."""
        if self._running != following:
            self._release(self._running)

    def finish(self) -> None:
        """Give up everything."""
        for unit in sorted(self._present):
            self._release(unit)
        self._running = -1

    def _release(self, unit: int) -> None:
        if unit in self._present:
            self._present.remove(unit)
            for storage in self._storages.get(unit, ()):
                storage.release()


class HostStateDict:
    """Lets ``state_dict`` and ``load_state_dict`` of a module reach its weights on the host.

    Args:
        module: that owns weights.
        weights: its weights on the host and their storages, by its names for them.
    """

    def __init__(
        self, module: nn.Module, weights: Mapping[str, tuple[Tensor, StreamedStorage]]
    ) -> None:
        self._weights = weights
        self._handles = [
            # It sets an attribute of what it is given, which a method refuses.
            module.register_state_dict_post_hook(functools.partial(self._save)),
            module.register_load_state_dict_pre_hook(self._before_load),
            module.register_load_state_dict_post_hook(self._after_load),
        ]

    def remove(self) -> None:
        """Let the module be as before."""
        for handle in self._handles:
            handle.remove()

    def _save(self, module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for name, (weight, _storage) in self._weights.items():
            if prefix + name in state:
                state[prefix + name] = weight.detach()

    def _before_load(self, *_: Any) -> None:
        for _weight, storage in self._weights.values():
            storage.fetch()
            storage.wait()

    def _after_load(self, *_: Any) -> None:
        for _weight, storage in self._weights.values():
            storage.write_back()
            storage.release()


def weight_on_host(parameter: nn.Parameter, storage: StreamedStorage) -> Tensor:
    """View the bytes on the host as the weight."""
    return layout_of(parameter).over(storage.host_bytes.untyped_storage())
