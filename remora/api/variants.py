"""A step at several tensor degrees and numbers of replicas, traced and priced."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remora.api.hardware import find_hardware
from remora.api.micro_batches import graphs_at, outline
from remora.api.passes import inference_spec, trace_pass
from remora.api.precision_variants import assignments
from remora.errors import InvalidInputError
from remora.graph.batch import batch_of, with_batch
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision, lossy_precisions
from remora.graph.tensor.plan import allowed_degrees, check_degree
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware
from remora.schedule.inference import InferenceSpec, Mode
from remora.schedule.problem import CostTable, Problem
from remora.schedule.ranks import check_world, divisors
from remora.zoo import Example

if TYPE_CHECKING:
    from remora.api.request import Request

__all__ = [
    "TracedVariant",
    "degrees_of",
    "is_global",
    "traced_variants",
    "variants_of_batch",
    "with_variants",
]

_MOST_SIZES = 3
"""Sizes of micro-batches of a batch that replicas share, from one sample on, about doubling."""


@dataclass(frozen=True)
class TracedVariant:
    """One rank's graphs under one tensor degree.

    Attributes:
        replicas: that share the batch; None where the batch is that of one replica.
        graphs: by number of micro-batches of one replica.
        inference: tokens and cache of one rank, in inference.
    """

    replicas: int | None
    graphs: Mapping[int, ModelGraph]
    inference: InferenceSpec | None = None


def is_global(request: Request, hardware: Hardware | None) -> bool:
    """Whether the example batch is that of all replicas together: on several nodes by default.

    Args:
        request: its ranks.
        hardware: None for this machine.
    """
    if request.global_batch is not None:
        return request.global_batch
    if request.mode == Mode.INFERENCE:
        return False
    return hardware is not None and request.world_size > hardware.devices_per_node


def degrees_of(example: Example, request: Request, hardware: Hardware | None) -> tuple[int, ...]:
    """Tensor degrees to try: the one asked for, else all within a node that the model allows.

    Args:
        example: the model.
        request: its ranks.
        hardware: None for this machine, on which none but the one asked for is tried.

    Raises:
        InvalidInputError: neither model nor ranks allow the one asked for.
    """
    world_size, degree = request.world_size, request.tensor_degree
    if degree is not None:
        if hardware is not None:
            check_world(world_size, degree, None, hardware)
        check_degree(example.model, degree)
        return (degree,)
    if hardware is None or world_size == 1 or request.mode == Mode.INFERENCE:
        return (1,)
    node = hardware.devices_per_node
    allowed = allowed_degrees(example.model, node)
    return tuple(d for d in divisors(world_size) if node % d == 0 and d in allowed)


def traced_variants(
    example: Example,
    request: Request,
    hardware: Hardware | None,
    units: Sequence[str] | None = None,
    model_name: str = "",
    progress: Callable[[str], None] = lambda text: None,
    precisions: Sequence[Precision] = (),
) -> tuple[TracedVariant, ...]:
    """Trace a step under every tensor degree, and number of replicas if they share the batch.

    After them come those with units in fewer bits, if the request allows any.

    Args:
        example: the model and its batch.
        request: ranks, micro-batches, and the degree if it is fixed.
        hardware: its nodes; None for this machine.
        units: module paths that begin units.
        model_name: kept in the graphs.
        progress: told what is traced.
        precisions: of the units of all variants; empty for the model's own.

    Returns:
        Variants; the first has the lowest degree, and of those the fewest replicas.

    Raises:
        InvalidInputError: a degree, a number of micro-batches or the batch does not fit the ranks.
        TraceError, ModelRunError: the model could not be traced, or failed on its batch.
    """
    forward_only = request.mode == Mode.INFERENCE
    tracer = _Tracer(example, units, model_name, progress, forward_only, tuple(precisions))
    found = _traced(example, request, hardware, tracer)
    if request.precisions:
        found += _in_fewer_bits(found, request, hardware, tracer)
    if request.mode != Mode.INFERENCE:
        return found
    return tuple(replace(one, inference=_spec(example, request, one)) for one in found)


def _traced(
    example: Example,
    request: Request,
    hardware: Hardware | None,
    tracer: _Tracer,
) -> tuple[TracedVariant, ...]:
    degrees = degrees_of(example, request, hardware)
    if is_global(request, hardware):
        return variants_of_batch(
            tracer.at, tracer.batch, request.world_size, degrees, request.micro_batches
        )
    if request.world_size == 1 and request.micro_batches is None:
        # Also for inputs that have no batch.
        return (TracedVariant(None, {1: tracer.whole()}),)
    return tuple(
        TracedVariant(
            None,
            graphs_at(
                functools.partial(tracer.at, degree),
                tracer.batch,
                request.world_size // degree,
                request.micro_batches,
            ),
        )
        for degree in degrees
    )


def _in_fewer_bits(
    found: Sequence[TracedVariant],
    request: Request,
    hardware: Hardware | None,
    tracer: _Tracer,
) -> tuple[TracedVariant, ...]:
    """Every variant again, with units in fewer bits."""
    rates = hardware or find_hardware(request.hardware, request.host_pool)
    chosen = tuple(Precision(name) for name in request.precisions)
    made: list[TracedVariant] = []
    for variant in found:
        whole = variant.graphs[min(variant.graphs)]
        again = functools.partial(tracer.again, whole)
        for assignment in assignments(whole, chosen, again, rates):
            graphs = {
                count: tracer.again(graph, assignment) for count, graph in variant.graphs.items()
            }
            made.append(replace(variant, graphs=graphs))
    return tuple(made)


def _spec(example: Example, request: Request, variant: TracedVariant) -> InferenceSpec:
    """Tokens and cache of one of the ranks that share layers, in one replica."""
    graph = next(iter(variant.graphs.values()))
    spec = inference_spec(
        example.model,
        graph,
        example.example_inputs,
        request.prompt_tokens,
        request.generated_tokens,
    )
    return replace(
        spec,
        sequences=spec.sequences // (variant.replicas or 1),
        cache_bytes=tuple(-(-size // graph.tensor_degree) for size in spec.cache_bytes),
    )


class _Tracer:
    """Traces an example at sizes of its batch, each once."""

    def __init__(
        self,
        example: Example,
        units: Sequence[str] | None,
        model_name: str,
        progress: Callable[[str], None],
        forward_only: bool = False,
        precisions: tuple[Precision, ...] = (),
    ) -> None:
        self._example, self._units, self._name = example, units, model_name
        self._forward_only = forward_only
        self._progress = progress
        self._precisions = precisions
        self._known: dict[tuple[int, int], ModelGraph] = {}
        self._inputs: dict[int, ExampleInputs] = {}
        self._again: dict[tuple[int, tuple[Precision, ...]], ModelGraph] = {}

    @functools.cached_property
    def batch(self) -> int:
        """Samples of the example."""
        return batch_of(self._example.example_inputs)

    def whole(self) -> ModelGraph:
        """The example as it is."""
        return self._trace(self._example.example_inputs)

    def at(self, degree: int, samples: int) -> ModelGraph:
        """So many samples on one of ``degree`` ranks that share layers."""
        if (degree, samples) not in self._known:
            if degree > 1:
                self._progress(f"tracing {samples} samples on {degree} ranks that share layers")
            inputs = self._example.example_inputs
            part = inputs if samples == self.batch else with_batch(inputs, samples)
            self._known[degree, samples] = self._trace(part, degree)
        return self._known[degree, samples]

    def again(self, graph: ModelGraph, precisions: tuple[Precision, ...]) -> ModelGraph:
        """What a graph of this tracer was made from, with units in fewer bits."""
        key = id(graph), precisions
        if key not in self._again:
            self._progress(f"tracing with units in {', '.join(lossy_precisions(precisions))}")
            inputs = self._inputs[id(graph)]
            self._again[key] = self._traced(inputs, graph.tensor_degree, precisions)
        return self._again[key]

    def _trace(self, inputs: ExampleInputs, degree: int = 1) -> ModelGraph:
        graph = self._traced(inputs, degree, self._precisions)
        self._inputs[id(graph)] = inputs
        return graph

    def _traced(
        self, inputs: ExampleInputs, degree: int, precisions: tuple[Precision, ...]
    ) -> ModelGraph:
        model, _, loss = self._example
        if self._forward_only:
            return trace_pass(
                model,
                inputs,
                self._units,
                self._name,
                tensor_degree=degree,
                precisions=precisions,
            )
        return trace(
            model,
            inputs,
            loss,
            self._units,
            self._name,
            tensor_degree=degree,
            precisions=precisions,
        )


def variants_of_batch(
    trace_at: Callable[[int, int], ModelGraph],
    batch: int,
    world_size: int,
    degrees: Sequence[int],
    micro_batches: int | None = None,
) -> tuple[TracedVariant, ...]:
    """Trace a batch that replicas share under every degree and number of replicas.

    Args:
        trace_at: traces so many samples on one of so many ranks that share layers: the degree
            comes first.
        batch: of all replicas together.
        world_size: number of ranks.
        degrees: to try.
        micro_batches: fixed number for each replica, or None.

    Raises:
        InvalidInputError: no number of replicas divides the batch and leaves a unit per rank.
    """
    found: list[TracedVariant] = []
    for degree in degrees:
        groups = world_size // degree
        for replicas in divisors(groups):
            if batch % replicas:
                continue
            samples = batch // replicas
            sizes = _sizes(samples, micro_batches)
            if groups // replicas > len(trace_at(degree, sizes[0]).units):
                continue
            graphs = _graphs(functools.partial(trace_at, degree), samples, sizes)
            found.append(TracedVariant(replicas, graphs))
    if not found:
        raise InvalidInputError(
            f"world_size is {world_size} and the batch of all replicas together is {batch}; "
            "allowed: a batch that the number of replicas divides, where a pipeline has no more "
            "ranks than the model has units"
        )
    return tuple(found)


def with_variants(
    problem: Problem,
    variants: Sequence[TracedVariant],
    price: Callable[[ModelGraph, int], CostTable],
) -> Problem:
    """Return a problem with the same step under other degrees and numbers of replicas.

    Args:
        problem: the first of them, with its budget.
        variants: the others.
        price: makes the costs of a graph of so many micro-batches, once for each.
    """
    known: dict[int, CostTable] = {}

    def costs_of(graph: ModelGraph, count: int) -> CostTable:
        if id(graph) not in known:
            known[id(graph)] = price(graph, count)
        return known[id(graph)]

    return replace(
        problem,
        variants=tuple(
            replace(
                problem,
                graphs=variant.graphs,
                costs={count: costs_of(graph, count) for count, graph in variant.graphs.items()},
                replicas=variant.replicas,
                inference=variant.inference,
                variants=(),
            )
            for variant in variants
        ),
    )


def _sizes(samples: int, fixed: int | None) -> list[int]:
    """Samples of a micro-batch, of one replica's, ascending.

    Raises:
        InvalidInputError: the fixed number of micro-batches does not divide them.
    """
    if fixed is not None:
        if samples % fixed:
            raise InvalidInputError(
                f"micro_batches is {fixed}; allowed: divisors of the {samples} samples of a replica"
            )
        return [samples // fixed]
    return list(_doubling(divisors(samples)))[:_MOST_SIZES]


def _doubling(values: Sequence[int]) -> Iterator[int]:
    least = 1
    for value in values:
        if value >= least:
            yield value
            least = 2 * value


def _graphs(
    trace_at: Callable[[int], ModelGraph], samples: int, sizes: Sequence[int]
) -> dict[int, ModelGraph]:
    """Graphs by number of micro-batches, those left out that take another path."""
    graphs = {samples // size: trace_at(size) for size in reversed(sizes)}
    whole = outline(next(iter(graphs.values())))
    return {count: graph for count, graph in graphs.items() if outline(graph) == whole}
