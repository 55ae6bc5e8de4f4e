"""Memory that the kernels work in, made once and used again for every plan of that size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.chain_arrays import ChainArrays
from remora.simulator.compiled.columns import CARRIED, INPUTS, MADE, SAVED
from remora.simulator.compiled.items import Items, new_items
from remora.simulator.compiled.layout_arrays import LayoutArrays, StaticArrays, new_layout
from remora.simulator.compiled.live import Live, new_live
from remora.simulator.compiled.run_state import RunState, new_run_state
from remora.simulator.compiled.work import Fetches, StageTask

__all__ = ["Scratch", "Size", "new_scratch"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """What a scratch has room for.

    Attributes:
        stages: of one copy of the model.
        copies: of the model.
        ranks: of the pipeline.
        micro_batches: of one step.
        depth: of nested groups.
        window: largest offload window.
    """

    stages: int
    copies: int
    ranks: int
    micro_batches: int
    depth: int
    window: int

    def joined(self, other: Size) -> Size:
        """The size that serves plans of both, which have equal stages, copies and ranks."""
        depth, window = max(self.depth, other.depth), max(self.window, other.window)
        return replace(self, depth=depth, window=window)


class Scratch(NamedTuple):
    """Arrays that a batch is simulated in.

    Attributes:
        live, apart: memory of the walk through a stage.
        items: micro-programs of all stages.
        where: where they begin and end.  # [stages][4][2]
        region, unit_region: see ``RegionArrays``.
        fetches: weights that are brought in for every use.
        once: seconds of bringing a unit's weights in once a step, -1 for none.  # [n]
        task: the stage that is being lowered.
        layout: where everything is.
        run: state of all ranks.
    """

    live: Live
    apart: Live
    items: Items
    where: Ints
    region: Ints
    unit_region: Ints
    fetches: Fetches
    once: NDArray[np.float64]
    task: StageTask
    layout: LayoutArrays
    run: RunState


def new_scratch(chain: ChainArrays, statics: StaticArrays, host: Floats, size: Size) -> Scratch:
    """Make a scratch.

    Args:
        chain: the units.
        statics: weights, buffers and inputs.
        host: latency and rates of the host link.  # [3]
        size: what it has to have room for.
    """
    n = len(chain.unit)
    # Groups that nest without crossing are fewer than 2 n; units that recompute alone are n.
    regions, stores = 3 * n, 4 * n + 1
    crossing = sum(int(chain.table[row, n] - chain.table[row, 0]) for row in _CROSSING_ROWS)
    spare = 3 * (size.depth + 3) * crossing + 64
    items = 2 * ((5 * size.depth + 25) * n + 8 * size.stages)
    saved = int(chain.table[SAVED, n])
    lists = regions + 2 * n + stores
    live = [new_live(len(chain.cross), saved, lists, regions, spare) for _ in range(2)]
    return Scratch(
        live=live[0],
        apart=live[1],
        items=new_items(items),
        where=np.zeros((size.stages, 4, 2), dtype=np.int64),
        region=np.zeros((regions, 4), dtype=np.int64),
        unit_region=np.zeros((n, 2), dtype=np.int64),
        fetches=Fetches(
            size=np.zeros(n, dtype=np.int64),
            seconds=np.zeros(n, dtype=np.float64),
            cache=np.zeros(n, dtype=np.int64),
            store_s=np.zeros(n, dtype=np.float64),
            ahead=np.zeros(1, dtype=np.int64),
        ),
        once=np.zeros(n, dtype=np.float64),
        task=StageTask(
            span=np.zeros(4, dtype=np.int64),
            link=host,
            store=np.zeros((stores, 3), dtype=np.int64),
            store_bytes=np.zeros((stores, 3), dtype=np.int64),
            store_of=np.zeros(regions, dtype=np.int64),
            present=np.zeros(n, dtype=np.int64),
        ),
        layout=new_layout(n, size.stages, size.ranks, size.copies, statics, len(chain.readers)),
        run=new_run_state(n, len(statics.ints), len(chain.readers), stores, size),
    )


_CROSSING_ROWS = (SAVED, INPUTS, MADE, CARRIED)
