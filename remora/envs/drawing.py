"""What a problem is drawn from, and a drawn problem as plain values from which it is built again.

Every problem is drawn by its number alone, so that more of them leave the earlier ones as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.problem import OPTIMIZERS

__all__ = ["SYNTHETIC", "BudgetDraw", "ModelChoice", "ProblemSpec", "Recipe", "draw_spec"]

SYNTHETIC = "synthetic"
"""Name of models that are drawn instead of traced."""

_Drawn = TypeVar("_Drawn")
_MOST_DRAWS = 200
_PER_RANK = (1, 2, 4)
_PARTS = (1, 2, 4, 8)
"""Fixed numbers of micro-batches: of a pipeline per rank, and of one device."""

_WORN = (0.5, 1.0)
_LINKS = (0.3, 1.0)


@dataclass(frozen=True, slots=True)
class BudgetDraw:
    """How budgets are drawn, as shares of the way from least memory to keeping everything.

    Attributes:
        low, high: most budgets are between them; 0 is what recomputation alone reaches.
        elsewhere: share of the budgets that are anywhere from 0 to 1.
    """

    low: float = 0.02
    high: float = 0.4
    elsewhere: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high:
            raise InvalidInputError(
                f"budgets are drawn from {self.low} to {self.high}; allowed: 0 <= low <= high"
            )
        if not 0.0 <= self.elsewhere <= 1.0:
            raise InvalidInputError(f"elsewhere is {self.elsewhere}; allowed: 0 to 1")

    def share(self, generator: np.random.Generator) -> float:
        """Draw one."""
        if generator.random() < self.elsewhere:
            return float(generator.random())
        return float(generator.uniform(self.low, self.high))


@dataclass(frozen=True)
class ModelChoice:
    """One model and the values that are drawn for it.

    Attributes:
        model: name of a model's configuration, or :data:`SYNTHETIC`.
        values: what each of its values may be; ``batch`` among them. One left out keeps its own.
        weight: how often it is drawn, relative to the others.
        tokens: of the prompt and after it, pairs of which one is drawn; for passes of inference.
    """

    model: str
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    weight: float = 1.0
    tokens: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for pair in self.tokens:
            if len(pair) != 2 or not all(isinstance(one, int) and one >= 0 for one in pair):
                raise InvalidInputError(
                    f"tokens of model {self.model!r} hold {pair!r}; allowed: pairs of integers "
                    "from 0: of the prompt, and after it"
                )
        for key, allowed in self.values.items():
            if isinstance(allowed, str) or not isinstance(allowed, Sequence) or not allowed:
                raise InvalidInputError(
                    f"{key} of model {self.model!r} is {allowed!r}; allowed: a list of values"
                )


@dataclass(frozen=True)
class Recipe:
    """Everything that problems are drawn from.

    Attributes:
        models: what is planned.
        devices: names of hardware for problems of one device, and how often each is drawn.
        clusters: the same for pipelines.
        world_sizes: numbers of ranks, and how often each is drawn.
        optimizers: names, and how often each is drawn.
        budgets: how budgets are drawn.
        fixed: share of the problems that fix the number of micro-batches.
        varied: share of the traced models whose sizes and times are redrawn.
        spread: of the logarithms by which they are, from and to.
        mode: whether steps of training or passes of inference are planned.
    """

    models: tuple[ModelChoice, ...]
    devices: Mapping[str, float]
    clusters: Mapping[str, float] = field(default_factory=dict)
    world_sizes: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    optimizers: Mapping[str, float] = field(default_factory=lambda: {"adamw": 1.0})
    budgets: BudgetDraw = field(default_factory=BudgetDraw)
    fixed: float = 0.5
    varied: float = 0.0
    spread: tuple[float, float] = (0.2, 0.8)
    mode: Mode = Mode.TRAIN

    def __post_init__(self) -> None:
        _check_weights("models", {i: choice.weight for i, choice in enumerate(self.models)})
        _check_weights("world_sizes", self.world_sizes)
        _check_weights("optimizers", self.optimizers)
        if 1 in self.world_sizes:
            _check_weights("devices", self.devices)
        if set(self.world_sizes) - {1}:
            _check_weights("clusters", self.clusters)
        unknown = sorted(set(self.optimizers) - set(OPTIMIZERS))
        if unknown:
            raise InvalidInputError(
                f"optimizers holds {unknown[0]!r}; allowed: {', '.join(OPTIMIZERS)}"
            )
        for name, value in (("fixed", self.fixed), ("varied", self.varied)):
            if not 0.0 <= value <= 1.0:
                raise InvalidInputError(f"{name} is {value}; allowed: 0 to 1")
        if not 0.0 <= self.spread[0] <= self.spread[1]:
            raise InvalidInputError(f"spread is {self.spread}; allowed: two numbers, 0 or more")


@dataclass(frozen=True)
class ProblemSpec:
    """One drawn problem as plain values.

    Attributes:
        name: unique among those of one seed.
        model: name of a model's configuration, or :data:`SYNTHETIC`.
        values: take the place of single values of it; ``batch`` among them.
        spread: by which sizes and times are redrawn; 0 for the traced ones.
        model_seed: of that, and of synthetic models.
        hardware: name of its configuration.
        free_memory_share, host_link_share, link_share: of what it has as new.
        optimizer: name.
        world_size: number of ranks.
        micro_batches: fixed number, or None.
        range: where the budget stands from the least memory (0) to keeping everything (1).
        mode: ``train`` or ``inference``.
        prompt_tokens, generated_tokens: of one sequence, in inference; None for a prompt as long
            as the pass.
    """

    name: str
    model: str
    values: Mapping[str, Any]
    spread: float
    model_seed: int
    hardware: str
    free_memory_share: float
    host_link_share: float
    link_share: float
    optimizer: str
    world_size: int
    micro_batches: int | None
    range: float
    mode: str = Mode.TRAIN.value
    prompt_tokens: int | None = None
    generated_tokens: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", self.name):
            raise InvalidInputError(
                f"name of a problem is {self.name!r}; allowed: letters, digits, '_', '.' and '-'"
            )

    @property
    def batch(self) -> int:
        """Samples of one step."""
        return int(self.values["batch"])


def draw_spec(recipe: Recipe, seed: int, number: int) -> ProblemSpec:
    """Draw the problem of a number.

    Args:
        recipe: what it is drawn from.
        seed: of all draws.
        number: 0 or more; each is a problem of its own.

    Raises:
        InvalidInputError: hardly any batch can be cut into micro-batches for any number of ranks.
    """
    generator = np.random.default_rng([seed, number])
    for _ in range(_MOST_DRAWS):
        world_size = _pick(recipe.world_sizes, generator)
        weights = {index: choice.weight for index, choice in enumerate(recipe.models)}
        choice = recipe.models[_pick(weights, generator)]
        values = {key: _one(allowed, generator) for key, allowed in choice.values.items()}
        counts = list(_counts(int(values["batch"]), world_size))
        if counts:
            break
    else:
        raise InvalidInputError(
            "models have batches that no number of ranks divides; allowed: some that one does"
        )
    traced = choice.model != SYNTHETIC
    varied = traced and generator.random() < recipe.varied
    names = recipe.devices if world_size == 1 else recipe.clusters
    spec = ProblemSpec(
        name=f"{seed}-{number:05d}-{choice.model}-p{world_size}",
        model=choice.model,
        values=values,
        spread=float(generator.uniform(*recipe.spread)) if varied else 0.0,
        model_seed=int(generator.integers(2**31)),
        hardware=_pick(names, generator),
        free_memory_share=float(generator.uniform(*_WORN)),
        host_link_share=float(generator.uniform(*_LINKS)),
        link_share=float(generator.uniform(*_LINKS)),
        optimizer=_pick(recipe.optimizers, generator),
        world_size=world_size,
        micro_batches=_one(counts, generator) if generator.random() < recipe.fixed else None,
        range=recipe.budgets.share(generator),
        mode=recipe.mode.value,
    )
    if recipe.mode is Mode.TRAIN or not choice.tokens:
        return spec
    prompt, generated = _one(choice.tokens, generator)
    return replace(spec, prompt_tokens=prompt, generated_tokens=generated)


def _counts(batch: int, world_size: int) -> Iterator[int]:
    """Numbers of micro-batches that divide a batch and fill so many ranks."""
    for part in _PARTS if world_size == 1 else _PER_RANK:
        if batch % (part * world_size) == 0:
            yield part * world_size


def _pick(weights: Mapping[_Drawn, float], generator: np.random.Generator) -> _Drawn:
    """One of the keys, as often as its weight says."""
    shares = np.array(list(weights.values()))
    return list(weights)[int(generator.choice(len(shares), p=shares / shares.sum()))]


def _one(values: Sequence[_Drawn], generator: np.random.Generator) -> _Drawn:
    return values[int(generator.integers(len(values)))]


def _check_weights(name: str, weights: Mapping[Any, float]) -> None:
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise InvalidInputError(
            f"{name} is {dict(weights)}; allowed: names with weights of 0 or more, one above 0"
        )
