"""Models under plans of inference: same values, weights and caches where the plan says."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from torch import Tensor, nn

from remora.api.passes import pass_example, trace_pass
from remora.errors import InvalidInputError, UsageError
from remora.executor.memory.install import apply
from remora.executor.passes.verify import verify_pass
from remora.graph.attention_cache import attention_layers
from remora.graph.model_graph import ModelGraph
from remora.schedule.inference import InferenceSpec
from remora.schedule.menu import keep_all_schedule
from remora.schedule.parameters import StaticStorages
from remora.schedule.schedule import Placement, Schedule, StatePlan
from remora.zoo import Example, build_target
from tests.problems import BlockChain
from tests.zoo.model_files import load

NAMES = ("gpt2_tiny", "llama_tiny", "t5_tiny")
PROMPT, NEW = 20, 6


@functools.lru_cache(maxsize=4)
def case(name: str) -> tuple[Example, ModelGraph]:
    values = load("model", name)
    torch.manual_seed(0)
    example = pass_example(build_target(values["target"], values["values"]))
    return example, trace_pass(example.model, example.example_inputs)


def plan(
    graph: ModelGraph,
    streamed: tuple[int, ...] | None = None,
    caches: tuple[int, ...] = (),
    distance: int = 1,
) -> Schedule:
    """A schedule that streams some units, by default all with weights."""
    statics = StaticStorages(graph, 1)
    if streamed is None:
        streamed = tuple(u for u in range(len(graph.units)) if statics.weights_of((u,)))
    keep = keep_all_schedule(graph)
    memory = dataclasses.replace(keep.memory, prefetch_distance=distance)
    place = Placement.HOST if streamed else Placement.DEVICE
    state = StatePlan(weights=place, streamed_units=streamed, host_caches=caches)
    return dataclasses.replace(keep, memory=memory, state=state)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of weights that are on the device at this moment."""
    storages = [parameter.untyped_storage() for parameter in model.parameters()]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def output(example: Example) -> Tensor:
    with torch.no_grad():
        result = example.model(**example.example_inputs)
    logits: Tensor = result.logits
    return logits


def generated(example: Example) -> Tensor:
    ids = example.example_inputs["input_ids"][:, :PROMPT]  # type: ignore[call-overload]
    with torch.no_grad():
        made: Tensor = example.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
    return made


@pytest.mark.parametrize("with_caches", [False, True])
@pytest.mark.parametrize("distance", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_generated_tokens_stay_the_same(
    name: str, distance: int, with_caches: bool
) -> None:
    example, graph = case(name)
    plain, tokens, whole = output(example), generated(example), weight_bytes(example.model)
    caches = tuple(sorted(attention_layers(example.model, graph))) if with_caches else ()
    with apply(example.model, graph, plan(graph, caches=caches, distance=distance)) as handle:
        assert torch.equal(output(example), plain)
        assert torch.equal(generated(example), tokens)
        assert weight_bytes(example.model) == 0
        assert handle.host_bytes >= whole
    assert weight_bytes(example.model) == whole
    assert torch.equal(output(example), plain)


def test_only_the_units_asked_for_have_their_weights_on_the_device() -> None:
    model = BlockChain((64,) * 6).eval()
    inputs = (torch.randn(8, 16),)
    graph = trace_pass(model, inputs)
    present: list[int] = []
    blocks = [block for block in model.blocks]

    def look(*_: object) -> None:
        present.append(sum(block.up.weight.untyped_storage().nbytes() > 0 for block in blocks))

    handles = [block.down.register_forward_pre_hook(look) for block in blocks]
    for distance, expected in ((1, [2, 2, 2, 2, 2, 1]), (3, [4, 4, 4, 3, 2, 1])):
        present.clear()
        with apply(model, graph, plan(graph, distance=distance)), torch.no_grad():
            model(*inputs)
        assert present == expected
    for handle in handles:
        handle.remove()


def test_keys_and_values_wait_on_the_host_between_passes() -> None:
    example, graph = case("gpt2_tiny")
    ids = example.example_inputs["input_ids"][:, :PROMPT]  # type: ignore[call-overload]
    units = tuple(sorted(attention_layers(example.model, graph)))
    from transformers import DynamicCache

    with torch.no_grad():
        plain = example.model(ids, use_cache=True).past_key_values
        with apply(example.model, graph, plan(graph, (), units[:2])) as handle:
            cache = DynamicCache()
            example.model(ids, past_key_values=cache, use_cache=True)
            parts = [part for one in cache.layers[:2] for part in (one.keys, one.values)]
            assert handle.host_bytes == sum(part.numel() * part.element_size() for part in parts)
        for layer, other in zip(cache.layers, plain.layers, strict=True):
            assert torch.equal(layer.keys, other.keys)
            assert torch.equal(layer.values, other.values)


def test_a_cache_that_somebody_reorders_is_read_anew() -> None:
    example, graph = case("gpt2_tiny")
    ids = example.example_inputs["input_ids"][:, :PROMPT]  # type: ignore[call-overload]
    units = tuple(sorted(attention_layers(example.model, graph)))
    from transformers import DynamicCache

    def three_passes() -> Tensor:
        """The second finds the cache in another order, the third what was kept of that."""
        cache, order = DynamicCache(), [1, 0, 3, 2]
        example.model(ids, past_key_values=cache, use_cache=True)
        cache.reorder_cache(torch.tensor(order))
        for _ in range(2):
            result = example.model(ids[order, -1:], past_key_values=cache, use_cache=True)
        logits: Tensor = result.logits
        return logits

    with torch.no_grad():
        plain = three_passes()
        with apply(example.model, graph, plan(graph, (), units)):
            assert torch.equal(three_passes(), plain)


def test_gradients_are_refused() -> None:
    example, graph = case("gpt2_tiny")
    with apply(example.model, graph, plan(graph)), pytest.raises(UsageError, match="no_grad"):
        example.model(**example.example_inputs)


def test_units_without_attention_have_no_cache() -> None:
    example, graph = case("gpt2_tiny")
    with pytest.raises(InvalidInputError, match=r"state.host_caches holds 0, .* 1, 3, 5, 7"):
        apply(example.model, graph, plan(graph, (), (0,)))


def test_a_right_plan_passes_and_a_wrong_pass_is_flagged() -> None:
    example, graph = case("gpt2_tiny")
    spec = InferenceSpec(4, 64, PROMPT, NEW)
    inputs = example.example_inputs
    verdict = verify_pass(example.model, inputs, graph, plan(graph), spec, repetitions=1)
    assert verdict.passed
    whole = verify_pass(example.model, inputs, graph, plan(graph, ()), spec, repetitions=1)
    saved = whole.measurement.peak_memory_bytes - verdict.measurement.peak_memory_bytes
    assert saved > weight_bytes(example.model) / 2
    calls = []

    def disturb(module: nn.Module, args: object, logits: Tensor) -> Tensor:
        """The first pass is the plain one, those of its generation follow."""
        calls.append(module)
        return logits if len(calls) <= 1 + NEW else -logits

    handle = example.model.lm_head.register_forward_hook(disturb)
    wrong = verify_pass(example.model, inputs, graph, plan(graph), spec, repetitions=1)
    handle.remove()
    assert {"outputs_differ", "tokens_differ"} <= set(wrong.failures)


def test_more_tokens_than_positions_are_refused() -> None:
    example, graph = case("gpt2_tiny")
    spec = InferenceSpec(4, 64, 20, 64)
    with pytest.raises(InvalidInputError, match=r"generated_tokens is 64 .* allowed: up to 63"):
        verify_pass(example.model, example.example_inputs, graph, plan(graph), spec)
