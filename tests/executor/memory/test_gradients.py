"""Zoo models under plans of every kind: gradients, buffers and random state stay bit by bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch

from remora.executor.memory.install import apply
from remora.graph.trace import trace
from remora.schedule.schedule import Action, Schedule
from remora.zoo.registry import build_target
from tests.executor.memory.plans import differences, random_schedule, run_steps, schedule
from tests.zoo.model_files import TINY, load

REQUIRED = (
    "gpt2_tiny",
    "bert_tiny",
    "resnet_tiny",
    "unet_tiny",
    "fno2d_tiny",
    "t5_tiny",
    "llama_tiny",
    "swin_test",
)


def _check(name: str, seeds: range) -> None:
    config = load("model", name)
    example = build_target(config["target"], config["values"])
    # A trace may leave stand-ins in caches that a model keeps in plain attributes.
    graph = trace(copy.deepcopy(example.model), example.example_inputs, example.loss)
    buffers = {name: buffer.clone() for name, buffer in example.model.named_buffers()}

    def plans() -> Iterator[tuple[str, Schedule]]:
        yield "recompute", schedule(graph, Action.RECOMPUTE)
        yield "offload", schedule(graph, Action.OFFLOAD)
        for seed in seeds:
            yield f"random {seed}", random_schedule(graph, seed)

    plain = run_steps(example.model, example.example_inputs, example.loss)
    for label, plan in plans():
        with torch.no_grad():
            for buffer_name, buffer in example.model.named_buffers():
                buffer.copy_(buffers[buffer_name])
        with apply(example.model, graph, plan):
            scheduled = run_steps(example.model, example.example_inputs, example.loss)
        assert differences(plain, scheduled) == [], f"{name} under {label}: {plan.memory}"


@pytest.mark.parametrize("name", REQUIRED)
def test_three_random_mixes(name: str) -> None:
    _check(name, range(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_fifty_random_mixes(name: str) -> None:
    _check(name, range(100, 150))
