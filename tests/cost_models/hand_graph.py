"""A graph of four operators in two units of one kind, small enough to compute by hand."""

from __future__ import annotations

from remora.graph.model_graph import ModelGraph, Op, Storage, TensorView, Unit
from remora.hardware.hardware import Hardware, HostLink, Link

WIDTH = 1000
NUM_BYTES = 4 * WIDTH * WIDTH
ALIVE = 1 << 30


def hand_graph(dtype: str = "float32") -> ModelGraph:
    """Two units, each a matrix product forward and a view backward, over one parameter."""
    storages = (
        Storage(NUM_BYTES, "parameter", "weight", -1, ALIVE),
        Storage(NUM_BYTES, "activation", "", 0, 4),
        Storage(NUM_BYTES, "activation", "", 1, 4),
        Storage(NUM_BYTES, "gradient", "weight", 2, ALIVE),
    )
    tensors = tuple(
        TensorView(storage, (WIDTH, WIDTH), (WIDTH, 1), 0, dtype) for storage in range(4)
    )
    ops = (
        _product(0, (0, 0), (1,)),
        _product(1, (0, 1), (2,)),
        _view(1, 2),
        _view(0, 1),
    )
    units = (_unit(0, (0, 1), (3, 4)), _unit(1, (1, 2), (2, 3)))
    return ModelGraph("hand", ops, storages, tensors, units, 2, "hand")


def hand_hardware() -> Hardware:
    """One TFLOP/s in float32, ten in bfloat16, 100 GB/s, 1 us per kernel."""
    link = Link(1e10, 1e-6)
    return Hardware(
        name="hand",
        device_type="cuda",
        devices_per_node=1,
        memory_bytes=10**9,
        context_bytes=0,
        flops_per_s={"float32": 1e12, "bfloat16": 1e13},
        memory_bandwidth_bytes_per_s=1e11,
        kernel_launch_s=1e-6,
        host=HostLink(10**9, 2e9, 3e9, 1e-5, 1, False, "pinned"),
        link=link,
        node_link=link,
    )


def _product(unit: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Op:
    return Op(
        name="aten.mm.default",
        phase="forward",
        module="",
        unit=unit,
        args=tuple(["tensor", tensor] for tensor in inputs),
        kwargs=(),
        inputs=inputs,
        outputs=outputs,
        flops=2.0 * WIDTH**3,
        bytes_read=2 * NUM_BYTES,
        bytes_written=NUM_BYTES,
        random=False,
        view=False,
        mutates=(),
    )


def _view(unit: int, tensor: int) -> Op:
    return Op(
        name="aten.detach.default",
        phase="backward",
        module="",
        unit=unit,
        args=(["tensor", tensor],),
        kwargs=(),
        inputs=(tensor,),
        outputs=(tensor,),
        flops=0.0,
        bytes_read=0,
        bytes_written=0,
        random=False,
        view=True,
        mutates=(),
    )


def _unit(index: int, forward: tuple[int, int], backward: tuple[int, int]) -> Unit:
    return Unit(index, f"block.{index}", "kind", None, (), forward, backward, (), (), "")
