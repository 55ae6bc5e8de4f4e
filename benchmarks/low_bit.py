"""Units in fewer bits on this CPU: error of loss and gradients beside time and memory, measured.

Run `python -m benchmarks.low_bit [out=FOLDER] [models=A,B] [repetitions=9]`, a few minutes for all,
on one thread (OMP_NUM_THREADS=1). Steps of the plain model and of each precision take turns, so
that a busy machine is equally busy for all of them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.recording import RESULTS, arguments, context, table, write

MODELS = {
    "gpt2_tiny": {"batch": 16},
    "llama_tiny": {"batch": 16},
    "bert_tiny": {"batch": 16},
    "vit_tiny": {"batch": 16},
    "resnet_tiny": {"batch": 16},
}
PASSES = ("gpt2_tiny", "llama_tiny", "bert_tiny")


def example_of(name: str) -> Any:
    """A model of the zoo with its batch."""
    import torch

    from remora.api.configs import load_config
    from remora.zoo import build_target

    values = load_config("model", name)
    torch.manual_seed(0)
    return build_target(values["target"], {**values["values"], **MODELS[name]})


def precisions_of(graph: Any, name: str) -> tuple[Any, ...]:
    """A precision wherever the planner would put it if it were the fastest."""
    from remora.api.precision_variants import everywhere
    from remora.graph.precision.precision import Precision

    return everywhere(graph, Precision(name))


def trained(name: str, repetitions: int) -> Iterator[dict[str, Any]]:
    """Steps of one model with everything kept, plain and in fewer bits."""
    from remora.api.hardware import find_hardware
    from remora.cost_models.roofline import roofline_costs
    from remora.executor.verify import verify
    from remora.graph.trace import trace
    from remora.schedule.menu import keep_all_schedule
    from remora.schedule.problem import OPTIMIZERS, Problem
    from remora.simulator.simulate import simulate

    model, inputs, loss = example_of(name)
    base = trace(model, inputs, loss)
    hardware = find_hardware("local")
    graphs = {"model": base}
    for precision in ("bf16", "int8"):
        chosen = precisions_of(base, precision)
        graph = trace(model, inputs, loss, precisions=chosen)
        if [u.kind for u in graph.units] != [u.kind for u in base.units]:
            graphs[precision] = graph
    seconds = _step_seconds((model, inputs, loss), graphs, repetitions)
    plain_bytes = 0
    for precision, graph in graphs.items():
        schedule = keep_all_schedule(graph)
        costs = roofline_costs(graph, hardware)
        problem = Problem({1: graph}, {1: costs}, hardware, OPTIMIZERS["adamw"], 2**40)
        predicted = simulate(problem, schedule)
        found = verify(model, inputs, loss, graph, schedule, repetitions=3)
        plain_bytes = plain_bytes or found.measurement.peak_memory_bytes
        errors = found.precision
        yield {
            "model": name,
            "precision": precision,
            "units": sum(unit.precision.value != "model" for unit in graph.units),
            "step_time_s": seconds[precision],
            "peak_bytes": found.measurement.peak_memory_bytes,
            "plain_peak_bytes": plain_bytes,
            "plain_step_time_s": seconds["model"],
            "predicted_peak_bytes": predicted.max_peak_bytes,
            "loss_error": 0.0 if errors is None else errors.loss,
            "gradient_error": 0.0 if errors is None else errors.gradients,
            "median_gradient_error": 0.0 if errors is None else errors.median_gradient,
            "max_gradient_error": 0.0 if errors is None else errors.max_gradient,
            "rounded_weights_error": 0.0 if errors is None else errors.rounded_weights,
            "failures": list(found.failures),
        }


def _step_seconds(
    example: tuple[Any, Any, Any], graphs: dict[str, Any], repetitions: int
) -> dict[str, float]:
    """Median seconds of forward and backward by precision, in turns."""
    import contextlib

    from remora.executor.memory.install import apply
    from remora.graph.loss import call_model, resolve_loss
    from remora.schedule.menu import keep_all_schedule

    model, inputs, loss = example
    seconds: dict[str, list[float]] = {precision: [] for precision in graphs}
    for turn in range(repetitions + 1):
        for precision, graph in graphs.items():
            under = contextlib.nullcontext()
            if precision != "model":
                under = apply(model, graph, keep_all_schedule(graph))
            with under:
                start_s = time.perf_counter()
                resolve_loss(loss)(call_model(model, inputs)).backward()
                taken_s = time.perf_counter() - start_s
            model.zero_grad(set_to_none=True)
            if turn:
                seconds[precision].append(taken_s)
    return {precision: statistics.median(times) for precision, times in seconds.items()}


def passed(name: str) -> dict[str, Any]:
    """Passes of one model with its weights in eight bits."""
    from remora.api.passes import inference_spec, pass_example, trace_pass
    from remora.executor.passes.verify import verify_pass
    from remora.schedule.menu import keep_all_schedule

    model, inputs, _ = pass_example(example_of(name))
    base = trace_pass(model, inputs)
    graph = trace_pass(model, inputs, precisions=precisions_of(base, "int8"))
    spec = inference_spec(model, graph, inputs)
    found = verify_pass(model, inputs, graph, keep_all_schedule(graph), spec)
    assert found.plain is not None
    assert found.precision is not None
    return {
        "model": name,
        "weights_bytes": graph.parameter_bytes + graph.buffer_bytes,
        "plain_weights_bytes": base.parameter_bytes + base.buffer_bytes,
        "peak_bytes": found.measurement.peak_memory_bytes,
        "plain_peak_bytes": found.plain.peak_memory_bytes,
        "pass_time_s": found.measurement.step_time_s,
        "plain_pass_time_s": found.plain.step_time_s,
        "output_error": found.precision.loss,
        "failures": list(found.failures),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    error = row["predicted_peak_bytes"] / row["peak_bytes"] - 1
    return [
        row["model"],
        row["precision"],
        str(row["units"]),
        f"{row['step_time_s'] * 1e3:.1f} ms",
        f"{row['step_time_s'] / row['plain_step_time_s'] - 1:+.0%}",
        f"{row['peak_bytes'] / 2**20:.2f} MiB",
        f"{row['peak_bytes'] / row['plain_peak_bytes'] - 1:+.1%}",
        f"{error:+.2%}",
        f"{row['loss_error']:.3%}",
        f"{row['gradient_error']:.2%}",
        f"{row['median_gradient_error']:.2%} / {row['max_gradient_error']:.2%}",
        f"{row['rounded_weights_error']:.2%}",
        ", ".join(row["failures"]) or "-",
    ]


def _pass_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        f"{row['plain_weights_bytes'] / 2**20:.2f} MiB",
        f"{row['weights_bytes'] / 2**20:.2f} MiB",
        f"{row['peak_bytes'] / row['plain_peak_bytes'] - 1:+.1%}",
        f"{row['pass_time_s'] / row['plain_pass_time_s'] - 1:+.0%}",
        f"{row['output_error']:.2%}",
        ", ".join(row["failures"]) or "-",
    ]


def main(words: list[str]) -> None:
    """Measure and write both tables."""
    defaults = {"out": str(RESULTS), "models": ",".join(MODELS), "repetitions": "9"}
    values = arguments(words, defaults)
    chosen = values["models"].split(",")
    collect: Callable[[Iterator[dict[str, Any]]], list[dict[str, Any]]] = list
    rows = [row for name in chosen for row in collect(trained(name, int(values["repetitions"])))]
    passes = [passed(name) for name in chosen if name in PASSES]
    command = " ".join(["python -m benchmarks.low_bit", *words])
    record = {
        "context": context(command, ("torch", "torchao", "transformers")),
        "training": rows,
        "inference": passes,
    }
    head = ("model", "precision", "units", "forward + backward", "", "peak", "", "prediction")
    head += ("loss error", "gradient error", "single: median / max", "rounded weights", "failed")
    pass_head = ("model", "weights", "in int8", "peak", "time of a pass", "output error", "failed")
    body = "\n\n".join(
        [
            "## A training step, everything kept",
            table(head, [_cells(row) for row in rows]),
            "## A pass of inference with int8 weights",
            table(pass_head, [_pass_cells(row) for row in passes]),
            NOTES,
        ]
    )
    write(Path(values["out"]), "low_bit", record, "Units in fewer bits", body)


NOTES = """\
Units: how many compute in fewer bits; all that may. Times are medians of turns, peaks include
AdamW, and "prediction" is how far the simulated peak is off. Errors are against the plain model in
float32: of the loss relative to it, of gradients as the length of the difference over the length,
all together and parameter by parameter. "Rounded weights" is the same figure for the plain model
whose weights alone are rounded to bfloat16: where that is large, the model answers to any rounding
with other gradients (batch norm over few samples), and nothing can be said of the precision.
Eight bits keep the first and the last unit of a model out, and change linear layers alone.
"""


if __name__ == "__main__":
    main(sys.argv[1:])
