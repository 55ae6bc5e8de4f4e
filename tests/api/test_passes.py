"""What a problem of inference is told about a model: its pass, its tokens, its cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from remora.api.passes import (
    check_mode_values,
    inference_spec,
    pass_example,
    trace_pass,
)
from remora.errors import InvalidInputError
from remora.graph.evaluating import evaluating
from remora.zoo import Example, build_target
from tests.zoo.model_files import load


def example_of(name: str) -> Example:
    values = load("model", name)
    torch.manual_seed(0)
    return pass_example(build_target(values["target"], values["values"]))


def real_cache_bytes(example: Example) -> int:
    """What the library keeps of one pass, all sequences and layers together."""
    with torch.no_grad():
        cache = example.model(**example.example_inputs, use_cache=True).past_key_values
    parts = [cache]
    if hasattr(cache, "self_attention_cache"):
        parts = [cache.self_attention_cache, cache.cross_attention_cache]
    layers = [layer for part in parts for layer in part.layers]
    return sum(t.numel() * t.element_size() for one in layers for t in (one.keys, one.values))


@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny", "qwen3_tiny", "t5_tiny"])
def test_the_cache_is_as_large_as_the_library_makes_it(name: str) -> None:
    example = example_of(name)
    graph = trace_pass(example.model, example.example_inputs)
    spec = inference_spec(example.model, graph, example.example_inputs)
    assert spec.sequences * sum(spec.cache_bytes) == real_cache_bytes(example)
    longer = inference_spec(example.model, graph, example.example_inputs, generated_tokens=64)
    assert sum(longer.cache_bytes) > sum(spec.cache_bytes)
    assert longer.total_tokens == spec.pass_tokens + 64


@pytest.mark.parametrize("name", ["bert_tiny", "resnet_tiny", "mamba2_tiny"])
def test_models_without_keys_and_values_keep_none(name: str) -> None:
    example = example_of(name)
    graph = trace_pass(example.model, example.example_inputs)
    assert inference_spec(example.model, graph, example.example_inputs).cache_bytes == ()


def test_generating_needs_a_model_that_can() -> None:
    example = example_of("bert_tiny")
    graph = trace_pass(example.model, example.example_inputs)
    with pytest.raises(InvalidInputError, match=r"generated_tokens is 5 .* allowed: 0"):
        inference_spec(example.model, graph, example.example_inputs, generated_tokens=5)


def test_a_model_is_in_its_own_mode_again_after_its_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5).eval())
    trace_pass(model, (torch.randn(2, 4),))
    assert [module.training for module in model.modules()] == [True, True, False]
    with evaluating(model):
        assert not model.training
    assert model.training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("serve", None, 0), "mode is 'serve'; allowed: 'train', 'inference'"),
        (("inference", -1, 0), "prompt_tokens is -1; allowed"),
        (("inference", None, 1.5), "generated_tokens is 1.5; allowed"),
        (("train", 8, 0), "prompt_tokens is 8 with mode='train'; allowed: none"),
    ],
)
def test_bad_tokens_and_modes_are_named(values: tuple[str, int, int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_mode_values(*values)
