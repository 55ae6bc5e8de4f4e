"""Which activations get a gradient back, and what a shared weight's gradient is summed from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.chain import Chain
from remora.schedule.gradient_flow import differentiable_activations, partial_gradients
from tests.problems import table, toy_graph, zoo_graph


class Masked(nn.Module):
    """A mask and an angle that come from the input alone, used in a later layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        mask = (x > 0).float()
        hidden = self.layers[0](x)
        return self.layers[1](hidden * mask)


def made_by(graph: ModelGraph, operator: str) -> set[int]:
    return {
        index
        for index, storage in enumerate(graph.storages)
        if 0 <= storage.created < graph.num_forward_ops
        and graph.ops[storage.created].name.split(".")[1] == operator
    }


def test_only_what_depends_on_a_trained_weight_gets_a_gradient() -> None:
    graph = trace(Masked(), (torch.randn(4, 8),), loss=torch.sum)
    found = differentiable_activations(graph)
    assert made_by(graph, "addmm") | made_by(graph, "mul") <= found
    assert not made_by(graph, "gt") & found
    assert not made_by(graph, "_to_copy") & found


def test_frozen_weights_give_no_gradient() -> None:
    model = Masked()
    model.layers[0].requires_grad_(requires_grad=False)
    graph = trace(model, (torch.randn(4, 8),), loss=torch.sum)
    first, second = sorted(made_by(graph, "addmm"))
    assert {first, second} & differentiable_activations(graph) == {second}


@pytest.mark.parametrize(
    ("name", "makers"),
    [
        # The head's part is added in the first unit.
        ("gpt2_tiny", {10: 0}),
        # The head's part is added where the decoder embeds, that sum where the encoder does.
        ("t5_tiny", {14: 6, 6: 0}),
        ("unet_tiny", {}),
    ],
)
def test_parts_of_shared_gradients_are_found(name: str, makers: dict[int, int]) -> None:
    graph = zoo_graph(name)
    parts = partial_gradients(graph)
    assert {graph.ops[graph.storages[s].created].unit: u for s, u in parts.items()} == makers


def test_equal_weights_that_are_not_shared_have_no_parts() -> None:
    assert not partial_gradients(toy_graph())


def test_the_part_of_a_shared_gradient_belongs_to_the_half_of_the_weights() -> None:
    graph = zoo_graph("gpt2_tiny")
    chain = Chain(graph, table(graph))
    (part,) = partial_gradients(graph)
    maker = graph.storages[part].created
    split = chain.split(10)
    assert maker in split.weights.ops
    assert maker not in split.inputs.ops
    # What the unit before it waits for is still made in the first half.
    assert split.inputs.ops
