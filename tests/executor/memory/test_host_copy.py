"""A copy to the host that cannot begin, as where no host memory is left."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from remora.executor.memory.host_pool import HostBlock
from remora.executor.memory.mover import CpuMover, Event
from remora.executor.memory.offload import HostCopy


class FullHost(CpuMover):
    """Has no room."""

    def to_host(self, content: Tensor) -> tuple[HostBlock, Event]:
        raise MemoryError("no room for it")


# An error in its destructor would be one more, and pytest would tell it as a warning.
@pytest.mark.filterwarnings("error")
def test_only_the_reason_is_raised() -> None:
    mover = FullHost()
    with pytest.raises(MemoryError, match="no room"):
        HostCopy(mover, torch.zeros(16, dtype=torch.uint8))
    gc.collect()
    assert mover.pool.bytes_in_use == 0
