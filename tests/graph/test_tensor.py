"""The trace of one of several ranks that share layers: what is cut, what stays, what is sent."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.graph.model_graph import ALL_GATHER, ALL_REDUCE, ModelGraph
from remora.graph.tensor.plan import Style, allowed_degrees, tensor_plan
from remora.graph.trace import trace
from remora.zoo import build_target
from tests.problems import BlockChain
from tests.shared_layers import HIDDEN, WIDTH, SharedChain, shared_graph, shared_zoo_graph
from tests.zoo.model_files import load

BATCH = 8


def sizes(graph: ModelGraph, role: str) -> dict[str, int]:
    return {s.name: s.num_bytes // 4 for s in graph.storages if s.role == role}


def sent(graph: ModelGraph, phase: str) -> Counter[str]:
    return Counter(op.name for op in graph.ops if op.phase == phase and op.name.startswith("rem"))


def zoo_model(name: str) -> nn.Module:
    values = load("model", name)
    return build_target(values["target"], values["values"]).model


def test_weights_of_a_pair_are_cut_and_the_rest_is_whole() -> None:
    found = sizes(shared_graph(degree=4), "parameter")
    assert found["blocks.0.up.weight"] == HIDDEN * WIDTH // 4
    assert found["blocks.0.up.bias"] == HIDDEN // 4
    assert found["blocks.0.down.weight"] == HIDDEN * WIDTH // 4
    assert found["blocks.0.down.bias"] == WIDTH
    assert found["blocks.0.norm.weight"] == WIDTH
    assert sizes(shared_graph(degree=4), "gradient") == found


def test_every_pair_sums_once_forward_and_once_backward() -> None:
    graph = shared_graph(degree=2, num_blocks=3)
    assert sent(graph, "forward") == {ALL_REDUCE: 3}
    assert sent(graph, "backward") == {ALL_REDUCE: 3}


def test_arithmetic_of_cut_layers_is_divided() -> None:
    def products(graph: ModelGraph) -> float:
        return sum(op.flops for op in graph.ops if "mm" in op.name)

    head = 3 * 2 * BATCH * WIDTH * 4
    whole, half = products(shared_graph(degree=1)), products(shared_graph(degree=2))
    assert half - head == pytest.approx((whole - head) / 2)


def test_activations_between_a_pair_are_cut_and_boundaries_are_whole() -> None:
    whole, half = shared_graph(degree=1), shared_graph(degree=2)

    def saved(graph: ModelGraph) -> int:
        storages = {graph.storage_of(s) for s in graph.units[1].saved}
        return sum(graph.storages[storage].num_bytes for storage in storages)

    cut_weights, cut_activations = 2 * WIDTH * HIDDEN, BATCH * HIDDEN
    assert saved(whole) - saved(half) == 4 * (cut_weights + cut_activations) // 2
    assert [unit.name for unit in whole.units] == [unit.name for unit in half.units]


def test_layers_that_read_one_tensor_sum_its_gradient_once() -> None:
    """Queries, keys and values of a block: four sums a layer, one of the embedding, the head's."""
    graph = shared_zoo_graph("llama_tiny", 2)
    assert sent(graph, "forward") == {ALL_REDUCE: 2 * 4 + 1, ALL_GATHER: 1}
    assert sent(graph, "backward") == {ALL_REDUCE: 2 * 4 + 1}


def test_norms_of_cut_heads_sum_the_gradients_of_their_weights() -> None:
    """Two norms in each of the layers."""
    layers = load("model", "qwen3_tiny")["values"]["layers"]
    whole = sent(shared_zoo_graph("qwen3_tiny", 2), "backward")
    assert whole[ALL_REDUCE] == 2 * layers + 1 + 2 * layers


def test_a_graph_knows_its_degree_and_another_degree_is_another_graph() -> None:
    graphs = [shared_graph(degree) for degree in (1, 2, 4)]
    assert [graph.tensor_degree for graph in graphs] == [1, 2, 4]
    assert len({graph.content_hash for graph in graphs}) == 3


def test_the_model_is_as_before_after_the_trace() -> None:
    model = SharedChain((HIDDEN,) * 2, WIDTH)
    before = {name: p.clone() for name, p in model.named_parameters()}
    trace(model, (torch.randn(BATCH, WIDTH),), tensor_degree=2)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert "forward" not in vars(model.blocks[0].up)
    model(torch.randn(BATCH, WIDTH))


def test_shared_embedding_and_head_stay_shared() -> None:
    values = load("model", "llama_tiny")
    example = build_target(values["target"], {**values["values"], "tied_embeddings": True})
    graph = trace(*example, tensor_degree=2)
    names = [s.name for s in graph.storages if s.role == "parameter"]
    assert tensor_plan(example.model)["model.embed_tokens"] is Style.EMBEDDING
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    table = sizes(graph, "parameter")["model.embed_tokens.weight"]
    assert table == values["values"]["vocabulary"] * values["values"]["width"] // 2


@pytest.mark.parametrize(
    ("model", "degree", "message"),
    [
        ("toy", 2, r"tensor.degree is 2 and BlockChain has no tensor-parallel plan; allowed: 1$"),
        ("llama_tiny", 4, r"4, which does not divide num_key_value_heads=2; allowed: 1, 2$"),
        ("bert_tiny", 0, r"tensor.degree is 0; allowed: 1"),
    ],
)
def test_a_degree_that_the_model_cannot_be_cut_to_is_refused(
    model: str, degree: int, message: str
) -> None:
    built = BlockChain((HIDDEN,), WIDTH) if model == "toy" else zoo_model(model)
    with pytest.raises(InvalidInputError, match=message):
        trace(built, (torch.randn(BATCH, WIDTH),), tensor_degree=degree)


def test_a_width_that_a_degree_does_not_divide_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"the width of blocks.0.up=60; allowed: 1, 2, 3"):
        trace(SharedChain((60,), WIDTH), (torch.randn(BATCH, WIDTH),), tensor_degree=8)


def test_a_style_that_is_not_known_is_refused() -> None:
    model = SharedChain((HIDDEN,), WIDTH)
    model.tensor_parallel_plan = {"head": "diagonal"}
    with pytest.raises(InvalidInputError, match=r"says 'diagonal' for 'head', a Linear; allowed"):
        tensor_plan(model)


def test_allowed_degrees() -> None:
    assert allowed_degrees(zoo_model("llama_tiny"), 8) == (1, 2)
    assert allowed_degrees(zoo_model("t5_tiny"), 8) == (1,)
