"""Models whose layers are shared by several ranks, traced as one of them."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.zoo import build_target
from tests.problems import BlockChain
from tests.zoo.model_files import load

WIDTH = 16
HIDDEN = 64


class SharedChain(BlockChain):
    """Blocks that say how they are cut: up by columns, down by rows."""

    tensor_parallel_plan: ClassVar[dict[str, str]] = {
        "blocks.*.up": "colwise",
        "blocks.*.down": "rowwise",
    }


@functools.lru_cache(maxsize=16)
def shared_graph(degree: int = 2, num_blocks: int = 4, batch: int = 8) -> ModelGraph:
    model = SharedChain((HIDDEN,) * num_blocks, WIDTH)
    return trace(model, (torch.randn(batch, WIDTH),), tensor_degree=degree)


@functools.lru_cache(maxsize=16)
def shared_zoo_graph(name: str, degree: int) -> ModelGraph:
    values = load("model", name)
    torch.manual_seed(0)
    example = build_target(values["target"], values["values"])
    return trace(*example, model_name=name, tensor_degree=degree)
