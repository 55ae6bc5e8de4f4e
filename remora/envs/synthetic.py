"""Models that nobody built, of any depth: layers as real ones have them, in networks of four forms.

They are there because the traced models that agents may learn from are few and even: stages that
shrink and widen as those of convolutional networks, ways around as those of U-Nets, units of very
different size, and more units than real models have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from remora.envs.synthetic_graph import Block, Layer, LayerKind, block_graph
from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph

__all__ = ["FORMS", "synthetic_graphs"]

FORMS = ("even", "pyramid", "hourglass", "mixed")
"""Equal blocks; stages of ever fewer positions; the same and back with ways around; anything."""

_LEAST_UNITS, _MOST_UNITS = 4, 512
_DTYPES = ("float32", "bfloat16")
_INPUT_WIDTH = 4


def synthetic_graphs(
    values: Mapping[str, Any], seed: int, counts: Iterable[int]
) -> dict[int, ModelGraph]:
    """Draw a model and write down its step at some numbers of micro-batches.

    Args:
        values: ``batch`` in samples, ``units`` from 4 to 512, and ``form``, one of :data:`FORMS`.
        seed: of the draw.
        counts: numbers of micro-batches; each divides the batch.

    Raises:
        InvalidInputError: a value is missing or not allowed.
    """
    units, form, batch = (values.get(key) for key in ("units", "form", "batch"))
    if not isinstance(units, int) or not _LEAST_UNITS <= units <= _MOST_UNITS:
        raise InvalidInputError(
            f"units of a synthetic model is {units!r}; allowed: {_LEAST_UNITS} to {_MOST_UNITS}"
        )
    if form not in FORMS:
        raise InvalidInputError(
            f"form of a synthetic model is {form!r}; allowed: {', '.join(FORMS)}"
        )
    if not isinstance(batch, int) or batch < 1:
        raise InvalidInputError(f"batch of a synthetic model is {batch!r}; allowed: 1 or more")
    generator = np.random.default_rng(seed)
    dtype = _DTYPES[int(generator.integers(2))]
    positions, blocks = _network(form, units, generator)
    return {
        count: block_graph(blocks, positions, _INPUT_WIDTH, batch // count, dtype)
        for count in counts
    }


def _network(
    form: str, units: int, generator: np.random.Generator
) -> tuple[int, tuple[Block, ...]]:
    """Positions of the input, and the blocks: a first one, stages, and a head."""
    grid = form != "even" and (form != "mixed" or generator.random() < 0.5)
    sizes = _stage_sizes(form, units - 2, grid, generator)
    positions, width = sizes[0]
    blocks = [Block((Layer(LayerKind.MIX, positions, width, 9 if grid else 1),))]
    lengths = _composition(units - 2, len(sizes), generator)
    ends: list[int] = []
    for stage, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        mirror = len(sizes) - 1 - stage
        joins = ends[mirror] if form == "hourglass" and mirror < stage else None
        blocks += _stage(form, size, length, grid, joins, generator)
        ends.append(len(blocks) - 1)
    if form == "mixed":
        blocks = _with_ways_around(blocks, generator)
    classes = 2 ** int(generator.integers(4, 10 if grid else 16))
    positions, width = sizes[-1]
    pooled = [Layer(LayerKind.POINT, 1, width)] if form == "pyramid" else []
    head = Layer(LayerKind.MIX, 1 if pooled else positions, classes)
    blocks.append(Block((*pooled, head, Layer(LayerKind.LOSS, 1, 1))))
    return sizes[0][0], tuple(blocks)


def _stage_sizes(
    form: str, most: int, grid: bool, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Positions and width of every stage."""
    if not grid:
        positions, width = 2 ** int(generator.integers(6, 12)), 64 * _log_between(4, 32, generator)
        stages = 1 if form == "even" else min(most, int(generator.integers(2, 5)))
        factors = [1.0] + [float(2 ** generator.uniform(-1, 1)) for _ in range(stages - 1)]
        return [(positions, 16 * round(width * factor / 16)) for factor in factors]
    side, width = 8 * _log_between(3, 20, generator), 16 * _log_between(2, 8, generator)
    deepest = min(5, most, int(math.log2(side)) - 1)
    stages = int(generator.integers(min(2, deepest), deepest + 1))
    if form == "hourglass":
        stages = min(stages, (most + 1) // 2)
    growth = float(generator.uniform(1.4, 2.0))
    down = [
        ((side >> level) ** 2, 16 * round(width * growth**level / 16)) for level in range(stages)
    ]
    return [*down, *down[-2::-1]] if form == "hourglass" else down


def _composition(total: int, parts: int, generator: np.random.Generator) -> list[int]:
    """Positive numbers that sum up to ``total``.  # [parts]."""
    cuts = generator.choice(np.arange(1, total), parts - 1, replace=False)
    borders = [0, *sorted(int(cut) for cut in cuts), total]
    return [end - begin for begin, end in itertools.pairwise(borders)]


def _stage(
    form: str,
    size: tuple[int, int],
    length: int,
    grid: bool,
    joins: int | None,
    generator: np.random.Generator,
) -> list[Block]:
    """A block that takes the stage's size, and others that keep it: alike, or each its own."""
    patterns = [_block(size, grid, generator) for _ in range(int(generator.integers(1, 3)))]
    first = Block((Layer(LayerKind.MIX, *size, 9 if grid else 1), *patterns[0].layers), joins=joins)
    blocks = [first]
    for number in range(1, length):
        own = form == "mixed" and generator.random() < 0.7
        pattern = _block(size, grid, generator) if own else patterns[number % len(patterns)]
        blocks.append(pattern)
    return blocks


def _block(size: tuple[int, int], grid: bool, generator: np.random.Generator) -> Block:
    """A residual block: attention, or a few mixing layers with elementwise ones between them."""
    positions, width = size
    norm = Layer(LayerKind.POINT, positions, width)
    if not grid and generator.random() < 0.4:
        attention = (
            Layer(LayerKind.MIX, positions, 3 * width),
            Layer(LayerKind.ATTEND, positions, width),
        )
        return Block((norm, *attention, Layer(LayerKind.MIX, positions, width)), residual=True)
    inner = 16 * max(1, round(width * float(generator.choice((0.25, 0.5, 1, 2, 3, 4))) / 16))
    layers: list[Layer] = [norm]
    for _ in range(int(generator.integers(1, 4))):
        taps = int(generator.choice((1, 9))) if grid else 1
        layers.append(Layer(LayerKind.MIX, positions, inner, taps))
        points = int(generator.integers(1, 3))
        layers += [Layer(LayerKind.POINT, positions, inner)] * points
    return Block((*layers, Layer(LayerKind.MIX, positions, width)), residual=True)


def _with_ways_around(blocks: Sequence[Block], generator: np.random.Generator) -> list[Block]:
    """Let some blocks read the result of a much earlier one that has as many positions."""
    found = list(blocks)
    for _ in range(int(generator.integers(0, len(blocks) // 4 + 1))):
        reader = int(generator.integers(2, len(blocks))) if len(blocks) > 2 else 0
        block = found[reader]
        before = blocks[reader - 1].layers[-1].positions
        makers = [m for m in range(reader - 1) if blocks[m].layers[-1].positions == before]
        if not makers or block.joins is not None:
            continue
        first = Layer(LayerKind.MIX, block.layers[0].positions, block.layers[0].width)
        maker = makers[int(generator.integers(len(makers)))]
        # What is joined is wider than what the block keeps, so a layer brings it back.
        found[reader] = Block((first, *block.layers), joins=maker)
    return found


def _log_between(low: int, high: int, generator: np.random.Generator) -> int:
    """A whole number, each factor of two as likely as the next."""
    return round(math.exp(generator.uniform(math.log(low), math.log(high))))
