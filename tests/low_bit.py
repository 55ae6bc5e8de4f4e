"""Models some of whose units compute in fewer bits."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision
from remora.graph.trace import trace
from remora.zoo import Example, build_target
from tests.api.small_models import make_stack
from tests.zoo.model_files import load

BF16, INT8, FP8, MODEL = Precision.BF16, Precision.INT8, Precision.FP8, Precision.MODEL


def mixed(graph: ModelGraph, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """The precisions in turn, for units of the model.  # [num_units]."""
    return tuple(
        precisions[unit.index % len(precisions)] if unit.steps else MODEL for unit in graph.units
    )


def stack_graph(precisions: Sequence[Precision] = ()) -> ModelGraph:
    """A stack of six blocks with the precisions in turn."""
    model, inputs = make_stack()
    return trace(model, inputs, precisions=mixed(trace(model, inputs), precisions or (MODEL,)))


def zoo_example(name: str) -> Example:
    values = load("model", name)
    torch.manual_seed(0)
    return build_target(values["target"], values["values"])


@functools.lru_cache(maxsize=4)
def mixed_zoo_graph(name: str) -> ModelGraph:
    """Units of a zoo model in bf16, int8 and the model's own, in turn."""
    example = zoo_example(name)
    precisions = mixed(trace(*example), (BF16, INT8, MODEL))
    return trace(*example, model_name=name, precisions=precisions)
