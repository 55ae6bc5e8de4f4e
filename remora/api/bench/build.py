"""From a problem of a suite to the one that schedulers are given, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

from remora.api.bench.suite import SuiteProblem
from remora.api.bench.traces import batch_size, degrees, pass_spec, traced
from remora.api.hardware import find_hardware
from remora.api.micro_batches import graphs_at
from remora.api.problem import find_optimizer
from remora.api.variants import variants_of_batch, with_variants
from remora.graph.model_graph import ModelGraph
from remora.schedule.inference import Mode
from remora.schedule.problem import CostTable, Problem
from remora.schedule.ranks import divisors

__all__ = ["build_problem", "problem_hash"]


def build_problem(item: SuiteProblem) -> Problem:
    """Trace the model at the sizes needed, or read those traces, and work out roofline costs.

    Raises:
        UsageError: a value of the problem is not allowed.
        TraceError: the model could not be traced.
    """
    from remora.cost_models.roofline import roofline_costs

    if item.global_batch:
        return _cluster_problem(item)
    hardware, passes = find_hardware(item.hardware), item.mode == Mode.INFERENCE
    optimizer = find_optimizer(None if passes else item.optimizer)
    graphs = graphs_at(
        lambda samples: traced(item.model, item.values, samples, passes),
        batch_size(item.model, item.values),
        item.world_size,
        item.micro_batches,
    )
    costs = {
        count: roofline_costs(graph, hardware, optimizer.name) for count, graph in graphs.items()
    }
    spec = None
    if passes:
        tokens = (item.prompt_tokens, item.generated_tokens)
        spec = pass_spec(item.model, item.values, graphs[1], *tokens)
    return Problem(
        graphs,
        costs,
        hardware,
        optimizer,
        item.budget_bytes,
        item.world_size,
        item.micro_batches,
        inference=spec,
    )


def _cluster_problem(item: SuiteProblem) -> Problem:
    """One batch for all replicas: tensor degree and number of replicas are open."""
    from remora.cost_models.roofline import roofline_costs

    hardware, optimizer = find_hardware(item.hardware), find_optimizer(item.optimizer)
    node = hardware.devices_per_node
    allowed = degrees(item.model, item.values, node)

    def trace_at(degree: int, samples: int) -> ModelGraph:
        return traced(item.model, item.values, samples, tensor_degree=degree)

    def price(graph: ModelGraph) -> CostTable:
        return roofline_costs(graph, hardware, optimizer.name)

    first, *others = variants_of_batch(
        trace_at,
        batch_size(item.model, item.values),
        item.world_size,
        [d for d in divisors(item.world_size) if node % d == 0 and d in allowed],
        item.micro_batches,
    )
    problem = Problem(
        first.graphs,
        {count: price(graph) for count, graph in first.graphs.items()},
        hardware,
        optimizer,
        item.budget_bytes,
        item.world_size,
        item.micro_batches,
        replicas=first.replicas,
    )
    return with_variants(problem, others, lambda graph, count: price(graph))


def problem_hash(problem: Problem) -> str:
    """A short name for everything that is given with a problem: graphs, hardware and limits.

    Costs are left out: they follow from graphs and hardware by the rules of the program, and an
    answer is simulated again wherever it is used.
    """
    rates = dict(problem.hardware.flops_per_s)
    if not problem.graph.precisions:
        # Rates that no operator of a graph at its model's precision uses.
        rates = {name: rate for name, rate in rates.items() if name not in ("float8", "int8")}
    hardware = replace(problem.hardware, flops_per_s=rates)
    content = {
        "graphs": {str(count): graph.content_hash for count, graph in problem.graphs.items()},
        "hardware": asdict(hardware),
        "optimizer": problem.optimizer.name,
        "world_size": problem.world_size,
        "micro_batches": problem.micro_batches,
        "budget_bytes": problem.budget_bytes,
    }
    if problem.replicas is not None:
        content["replicas"] = problem.replicas
        content["variants"] = [problem_hash(variant) for variant in problem.variants]
    if problem.inference is not None:
        content["inference"] = asdict(problem.inference)
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
