"""Units in fewer bits in the trace: what changes, what does not, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError
from remora.graph.model_graph import ACTIVATION, ModelGraph
from remora.graph.precision.precision import Precision
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.graph.trace import trace
from tests.api.small_models import BATCH, WIDTH, make_stack
from tests.low_bit import BF16, FP8, INT8, MODEL, stack_graph

BLOCK = 2


def alone(precision: Precision) -> ModelGraph:
    """Only one block of the stack has the precision."""
    units = stack_graph().units
    model, inputs = make_stack()
    chosen = [precision if unit.index == BLOCK else MODEL for unit in units]
    return trace(model, inputs, precisions=chosen)


def product_dtypes(graph: ModelGraph, unit: int) -> set[str]:
    return {
        graph.tensors[op.inputs[-1]].dtype
        for op in graph.ops
        if op.unit == unit and op.name.split(".")[1] in ("mm", "addmm", "_int_mm", "_scaled_mm")
    }


def saved_bytes(graph: ModelGraph, unit: int) -> int:
    storages = {graph.storage_of(saved) for saved in graph.units[unit].saved}
    return sum(
        graph.storages[s].num_bytes for s in storages if graph.storages[s].role == ACTIVATION
    )


@pytest.mark.parametrize("precision", [BF16, INT8])
def test_other_units_do_not_notice(precision: Precision) -> None:
    base, graph = stack_graph(), alone(precision)
    for before, after in zip(base.units, graph.units, strict=True):
        assert (before.kind == after.kind) == (after.index != BLOCK)
        assert (before.name, before.steps) == (after.name, after.steps)


@pytest.mark.parametrize(
    ("precision", "dtypes"), [(BF16, {"bfloat16"}), (INT8, {"int8"}), (MODEL, {"float32"})]
)
def test_all_products_of_a_unit_have_its_dtype(precision: Precision, dtypes: set[str]) -> None:
    assert product_dtypes(alone(precision), BLOCK) == dtypes


def test_products_in_eight_bits_count_the_same_arithmetic() -> None:
    """Two layers, three products each: forward, gradients of input and of weight."""
    products = 6 * 2 * BATCH * WIDTH * (4 * WIDTH)
    base, graph = stack_graph(), alone(INT8)
    for one in (base, graph):
        flops = [op.flops for op in one.ops if op.unit == BLOCK and "mm" in op.name]
        assert sum(flops) == products


def test_a_unit_in_bf16_saves_half_of_what_it_computes_and_copies_of_weights() -> None:
    hidden = BATCH * 4 * WIDTH
    # Results of relu and dropout and the latter's mask, each a float, and the input of the block.
    assert saved_bytes(stack_graph(), BLOCK) == 4 * (3 * hidden + BATCH * WIDTH)
    weights = 2 * 2 * WIDTH * (4 * WIDTH)
    shorter = 2 * (3 * hidden + BATCH * WIDTH) + weights
    assert saved_bytes(alone(BF16), BLOCK) == shorter


def test_json_keeps_the_precisions_and_the_hash_tells_them_apart() -> None:
    graph = alone(BF16)
    again = graph_from_json(graph_to_json(graph))
    assert again.precisions == graph.precisions != ()
    assert again.content_hash == graph.content_hash != stack_graph().content_hash
    assert stack_graph().precisions == ()


def test_a_wrong_number_of_precisions_is_refused() -> None:
    model, inputs = make_stack()
    with pytest.raises(InvalidInputError, match=r"precision.units has 1 entries; allowed: \d+"):
        trace(model, inputs, precisions=[BF16])


class Twice(nn.Module):
    """A block that runs two times, with others between."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:  # [batch, 16]
        for index in (0, 1, 0, 2):
            x = self.blocks[index](x)
        return x


def test_units_that_share_a_module_have_one_precision() -> None:
    inputs = (torch.randn(8, 16),)
    graph = trace(Twice(), inputs)
    shared = next(u for u in graph.units if any(s.call == 1 for s in u.steps))
    chosen = [BF16 if unit is shared else MODEL for unit in graph.units]
    with pytest.raises(InvalidInputError, match=r"which share module 'blocks\.0'"):
        trace(Twice(), inputs, precisions=chosen)


def test_layers_of_other_sizes_keep_the_models_precision_in_fp8() -> None:
    model, inputs = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 16)), (torch.randn(16, 12),)
    graph = trace(model, inputs)
    chosen = [FP8 if unit.steps else MODEL for unit in graph.units]
    reduced = trace(model, inputs, precisions=chosen)
    names = [op.name for op in reduced.ops if "mm" in op.name]
    assert sum("_scaled_mm" in name for name in names) == 3
    assert sum("_scaled_mm" not in name for name in names) == 2
