"""Tracing: operators, storages, units and their borders, seen from outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError, ModelRunError, TraceError
from remora.graph.model_graph import GRADIENT, PARAMETER
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.graph.trace import trace
from tests.problems import BlockChain, toy_graph, zoo_graph
from tests.zoo.model_files import TINY


def test_blocks_of_one_shape_share_a_kind_and_others_do_not() -> None:
    graph = toy_graph((64, 64, 32, 64))
    kinds = {unit.name: unit.kind for unit in graph.units}
    assert kinds["blocks.1"] == kinds["blocks.3"] != kinds["blocks.2"]


def test_units_tile_the_forward_and_the_backward() -> None:
    graph = zoo_graph("gpt2_tiny")
    forward = [i for unit in graph.units for i in range(*unit.forward)]
    backward = [i for unit in reversed(graph.units) for i in range(*unit.backward)]
    assert forward == list(range(graph.num_forward_ops))
    assert backward == list(range(graph.num_forward_ops, len(graph.ops)))


def test_a_transformer_block_is_split_into_attention_and_mlp() -> None:
    names = [unit.name for unit in zoo_graph("gpt2_tiny").units]
    assert names[1:5] == [
        "transformer.h.0",
        "transformer.h.0.ln_2",
        "transformer.h.1",
        "transformer.h.1.ln_2",
    ]


def test_saved_bytes_of_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    graph = trace(model, (torch.randn(2, 8),), loss=torch.sum)
    saved = {
        graph.storage_of(saved)
        for unit in graph.units
        for saved in unit.saved
        if graph.storages[graph.storage_of(saved)].created >= 0
    }
    # ReLU saves its own result, which is also the second layer's input: one storage of 2 x 16.
    assert [graph.storages[storage].num_bytes for storage in saved] == [2 * 16 * 4]


def test_tied_weights_count_once_and_get_one_gradient() -> None:
    graph = zoo_graph("gpt2_tiny")
    names = [s.name for s in graph.storages if s.role == PARAMETER]
    gradients = [s.name for s in graph.storages if s.role == GRADIENT]
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    assert sorted(gradients) == sorted(names)


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = BlockChain((32, 32)).train()
    model.register_buffer("count", torch.zeros(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    state = torch.random.get_rng_state()
    trace(model, (torch.randn(2, 16, generator=torch.Generator().manual_seed(0)),))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
    assert all(type(p) is nn.Parameter and p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


class _Caching(nn.Module):
    """Keeps a table it made in its first forward, as position encodings do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.cached: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cached is None:
            self.cached = self.layer(torch.ones(1, 4)).detach()
        return self.layer(x) + self.cached


def test_a_table_cached_while_tracing_does_not_stay_in_the_model() -> None:
    model = _Caching()
    trace(model, (torch.randn(2, 4),), loss=torch.sum)
    assert model.cached is None
    assert model(torch.zeros(1, 4)).isfinite().all()


class _ReadsValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y * 2 if y.sum().item() > 0 else y


def test_a_forward_that_reads_a_value_falls_back_to_real_tensors_and_says_so() -> None:
    model = _ReadsValue()
    graph = trace(model, (torch.randn(2, 4),), loss=torch.sum)
    assert graph.traced_with == "real"
    assert "DataDependent" in graph.notes[0]
    assert model.layer.weight.grad is None


def test_a_value_read_without_memory_names_the_operator() -> None:
    model = _ReadsValue().to("meta")
    with pytest.raises(TraceError, match="_local_scalar_dense"):
        trace(model, (torch.randn(2, 4),), loss=torch.sum)


class _ChangesInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.second = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))
        self.third = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_no_border_lies_before_a_unit_that_changes_its_input_in_place() -> None:
    graph = trace(_ChangesInput(), (torch.randn(2, 4),), loss=torch.sum)
    assert "second" not in [unit.name for unit in graph.units]
    assert "third" in [unit.name for unit in graph.units]


def test_batch_norm_buffers_are_named() -> None:
    mutated = [name for unit in zoo_graph("resnet_tiny").units for name in unit.mutated_buffers]
    assert any(name.endswith("running_mean") for name in mutated)


def test_units_given_by_the_user_are_the_borders() -> None:
    graph = trace(BlockChain((32,) * 4), (torch.randn(2, 16),), units=["blocks.2"])
    assert [unit.name for unit in graph.units] == ["input", "blocks.2", "loss"]


def test_a_unit_that_is_not_called_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'blocks\.9'.*allowed"):
        trace(BlockChain((32,)), (torch.randn(2, 16),), units=["blocks.9"])


def test_an_external_loss_is_a_fixed_unit() -> None:
    assert toy_graph().units[-1].name == "loss"
    assert toy_graph().units[-1].fixed_reason


def test_a_failing_forward_names_the_module_and_its_own_error() -> None:
    with pytest.raises(ModelRunError, match=r"'blocks\.0\.norm'.*RuntimeError"):
        trace(BlockChain((32,)), (torch.randn(2, 5),))


@pytest.mark.parametrize("name", TINY)
def test_every_tiny_model_traces_into_several_units(name: str) -> None:
    graph = zoo_graph(name)
    assert graph.traced_with == "fake"
    assert len(graph.units) >= 4
    assert graph.flops > 0


def test_a_pass_has_no_backward_and_saves_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    step, one_pass = (trace(model, (torch.randn(3, 4),), forward_only=f) for f in (False, True))
    assert one_pass.forward_only
    assert not step.forward_only
    assert all(not unit.saved and unit.backward[0] == unit.backward[1] for unit in one_pass.units)
    assert one_pass.content_hash != step.content_hash
    assert one_pass.gradient_bytes == 0 < step.gradient_bytes
    assert graph_from_json(graph_to_json(one_pass)) == one_pass
    assert all(parameter.grad is None for parameter in model.parameters())


class TwoOutputs(nn.Module):
    """Returns what its first layer makes beside the end."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.layers[0](x)
        later = self.layers[1](first)
        later = torch.relu(later)
        return first, self.layers[2](later)


def test_an_output_of_a_pass_lives_to_its_end() -> None:
    graph = trace(TwoOutputs(), (torch.randn(3, 4),), forward_only=True)
    first, second, _, last = (s.dropped for s in graph.storages if s.created >= 0)
    assert first == last == len(graph.ops) > second
