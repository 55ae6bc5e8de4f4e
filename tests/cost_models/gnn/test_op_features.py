from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remora.cost_models.gnn.op_classes import CLASSES, op_class
from remora.cost_models.gnn.op_context import CONTEXT_FEATURES, EDGE_TYPES, storage_ends
from remora.cost_models.gnn.op_features import OP_FEATURES, UnitFeatures, encode_unit
from remora.cost_models.gnn.op_layouts import LAYOUT_FEATURES, layout_features
from remora.cost_models.gnn.op_shape_readers import op_shape
from remora.graph.model_graph import ModelGraph, Op
from remora.graph.trace import trace
from tests.cost_models.hand_graph import WIDTH, hand_graph, hand_hardware
from tests.problems import BlockChain


def encoded(graph: ModelGraph) -> list[UnitFeatures]:
    ends = storage_ends(graph)
    return [encode_unit(graph, unit, ends, hand_hardware()) for unit in graph.units]


def first(graph: ModelGraph, name: str) -> Op:
    return next(op for op in graph.ops if op.name == name)


def layout(graph: ModelGraph, name: str) -> dict[str, float]:
    values = layout_features(graph, first(graph, name))
    return dict(zip(LAYOUT_FEATURES, values, strict=True))


class Picture(nn.Module):
    """A strided, a grouped and a transposed convolution with a pool between."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.raised = nn.ConvTranspose2d(8, 6, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.raised(nn.functional.max_pool2d(self.depthwise(self.strided(x)), 2))


@pytest.fixture(scope="module")
def picture() -> ModelGraph:
    return trace(Picture(), (torch.zeros(2, 4, 16, 16),))


@pytest.fixture(scope="module")
def chain() -> ModelGraph:
    return trace(BlockChain((32, 32, 32, 32)), (torch.zeros(4, 16),))


def test_product_by_hand() -> None:
    graph = hand_graph()
    shape = op_shape(graph, graph.ops[0])
    assert (shape.m, shape.n, shape.k, shape.batch) == (WIDTH, WIDTH, WIDTH, 1)
    unit = encoded(graph)[0]
    assert unit.names == ("aten.mm", "aten.t") or unit.names[0] == "aten.mm"
    assert unit.arithmetic_s[0] == pytest.approx(graph.ops[0].flops / 1e12)
    assert unit.traffic_s[1] == 0.0


def test_convolutions_by_hand(picture: ModelGraph) -> None:
    found = [op_shape(picture, op) for op in picture.ops if op.name == "aten.convolution.default"]
    strided, depthwise, raised = found
    assert (strided.m, strided.n, strided.k) == (2 * 8 * 8, 8, 4 * 9)
    assert strided.flops == 2 * 2 * 8 * 8 * 8 * 4 * 9
    assert (depthwise.groups, depthwise.n, depthwise.k) == (8, 1, 25)
    assert depthwise.flops == 2 * 2 * 8 * 8 * 8 * 25
    # Every one of the 4 x 4 points is multiplied with all taps.
    assert raised.flops == 2 * 2 * 4 * 4 * 8 * 6 * 4


def test_convolution_backward_counts_the_gradients_that_are_asked_for(picture: ModelGraph) -> None:
    backward = [op for op in picture.ops if op.name == "aten.convolution_backward.default"]
    raised, depthwise, strided = [op_shape(picture, op) for op in backward]
    assert raised.image_gradient
    assert raised.flops == 2 * (2 * 2 * 4 * 4 * 8 * 6 * 4)
    assert depthwise.flops == 2 * (2 * 2 * 8 * 8 * 8 * 25)
    assert not strided.image_gradient
    assert strided.flops == 2 * 2 * 8 * 8 * 8 * 4 * 9


def test_equal_blocks_are_encoded_equally_wherever_they_stand(chain: ModelGraph) -> None:
    units = encoded(chain)
    same = [i for i, unit in enumerate(chain.units) if unit.kind == chain.units[1].kind]
    assert len(same) >= 2
    for i in same:
        np.testing.assert_array_equal(units[i].nodes, units[same[0]].nodes)
        np.testing.assert_array_equal(units[i].edge_index, units[same[0]].edge_index)


def test_features_are_finite_and_complete(chain: ModelGraph, picture: ModelGraph) -> None:
    for unit in (*encoded(chain), *encoded(picture)):
        assert unit.nodes.shape == (len(unit.names), len(OP_FEATURES))
        assert np.isfinite(unit.nodes).all()
        assert unit.edge_index.max() < len(unit.names)
        assert set(unit.edge_type) <= set(range(len(EDGE_TYPES)))


def test_edges_follow_storages(chain: ModelGraph) -> None:
    unit = encoded(chain)[1]
    relu = unit.names.index("aten.relu")
    made = unit.edge_index[:, unit.edge_type == EDGE_TYPES.index("made")]
    product = max(i for i in range(relu) if unit.names[i] == "aten.addmm")
    assert [product, relu] in made.T.tolist()


def test_layouts() -> None:
    class Strided(nn.Module):
        def forward(self, x: Tensor, row: Tensor) -> Tensor:
            return (x.transpose(1, 2).sin() * row).cos()

    inputs = (torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(3))
    graph = trace(Strided(), inputs)
    transposed = layout(graph, "aten.sin.default")
    assert transposed["first_transposed"] == 1.0
    assert transposed["first_dense"] == 0.0
    # Result and input lie the same way, so they are one loop.
    assert transposed["log_outer_loops"] == pytest.approx(np.log1p(1))
    product = layout(graph, "aten.mul.Tensor")
    assert product["inner_broadcast"] == 1.0 or product["inner_strided"] == 1.0


def test_first_use_meets_cold_caches_and_the_next_one_warm_ones(chain: ModelGraph) -> None:
    unit = encoded(chain)[1]
    column = len(OP_FEATURES) - len(CONTEXT_FEATURES)
    column += CONTEXT_FEATURES.index("log_reuse_distance")
    relu = unit.names.index("aten.relu")
    assert unit.nodes[relu, column] == 0.0
    assert unit.nodes[0, column] > 0.0


def test_unlisted_operators_find_a_group(chain: ModelGraph) -> None:
    assert op_class(chain, first(chain, "aten.relu.default")) == "pointwise"
    assert all(op_class(chain, op) in CLASSES for op in chain.ops)
