"""Traced graphs of zoo models, kept in memory and on disk, so that workers do not trace again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import remora
from remora.api.model_source import ModelSource, named_source
from remora.api.passes import inference_spec, pass_example, trace_pass
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.batch import batch_of, with_batch
from remora.graph.model_graph import ModelGraph
from remora.graph.serialize import graph_from_json, graph_to_json
from remora.graph.tensor.plan import allowed_degrees
from remora.graph.trace import trace
from remora.hardware.cache import cache_folder, cache_key
from remora.report.files import write_text
from remora.schedule.inference import InferenceSpec
from remora.zoo import Example

__all__ = ["batch_size", "degrees", "pass_spec", "traced"]

_FOLDER = "graphs"
_TRACED_BY = ("torch", "transformers", "neuraloperator")


def batch_size(model: str, values: Mapping[str, Any]) -> int:
    """The batch of a model's configuration with some values replaced.

    Raises:
        UnknownNameError: no such model.
        InvalidInputError: the model has no batch.
    """
    batch = named_source(model, values).values.get("batch")
    if not isinstance(batch, int) or batch < 1:
        raise InvalidInputError(f"batch of model {model!r} is {batch!r}; allowed: 1 or more")
    return batch


def pass_spec(
    model: str,
    values: Mapping[str, Any],
    graph: ModelGraph,
    prompt_tokens: int | None,
    generated_tokens: int,
) -> InferenceSpec:
    """Tokens and cache of a problem of inference.

    Args:
        model: name of ``conf/model``.
        values: take the place of single values of that file.
        graph: of its whole batch.
        prompt_tokens: of one sequence; None for those of the example.
        generated_tokens: of one sequence.
    """
    example = pass_example(_example(model, json.dumps(dict(values), sort_keys=True)))
    tokens = (prompt_tokens, generated_tokens)
    return inference_spec(example.model, graph, example.example_inputs, *tokens)


def traced(
    model: str,
    values: Mapping[str, Any],
    samples: int,
    forward_only: bool = False,
    tensor_degree: int = 1,
) -> ModelGraph:
    """Trace a training step of so many samples, or read the trace that an earlier process kept.

    Args:
        model: name of ``conf/model``.
        values: take the place of single values of that file.
        samples: of one micro-batch; the example batch is cut to it.
        forward_only: trace a pass of inference instead.
        tensor_degree: ranks that share every layer.

    Raises:
        See :meth:`ModelSource.build_for_tracing` and :func:`remora.graph.trace.trace`.
    """
    text = json.dumps(dict(values), sort_keys=True)
    return _traced(model, text, samples, forward_only, tensor_degree)


def degrees(model: str, values: Mapping[str, Any], most: int) -> tuple[int, ...]:
    """Degrees up to ``most`` that a model can be cut to, 1 first."""
    return allowed_degrees(_example(model, json.dumps(dict(values), sort_keys=True)).model, most)


@lru_cache(maxsize=32)
def _traced(
    model: str, values: str, samples: int, forward_only: bool, tensor_degree: int
) -> ModelGraph:
    source = named_source(model, json.loads(values))
    path = _path(source, samples, forward_only, tensor_degree)
    kept = _read(path)
    if kept is not None:
        return kept
    example = _example(model, values)
    example = pass_example(example) if forward_only else example
    inputs = example.example_inputs
    if batch_of(inputs) != samples:
        inputs = with_batch(inputs, samples)
    if forward_only:
        graph = trace_pass(example.model, inputs, model_name=model)
    else:
        graph = trace(
            example.model.train(),
            inputs,
            loss=example.loss,
            model_name=model,
            tensor_degree=tensor_degree,
        )
    write_text(path, graph_to_json(graph))
    return graph


@lru_cache(maxsize=1)
def _example(model: str, values: str) -> Example:
    return named_source(model, json.loads(values)).build_for_tracing()


def _path(source: ModelSource, samples: int, forward_only: bool, tensor_degree: int) -> Path:
    values = json.dumps(dict(source.values), sort_keys=True)
    mode: tuple[str, ...] = ("pass",) if forward_only else ()
    mode += (f"degree {tensor_degree}",) if tensor_degree > 1 else ()
    key = cache_key(source.name, source.target, values, samples, _tracer(), *mode)
    return cache_folder() / _FOLDER / f"{key}.json"


def _read(path: Path) -> ModelGraph | None:
    """The graph of a file; None where there is none that can be read."""
    try:
        return graph_from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, FileFormatError):
        # It is traced and written anew.
        return None


@lru_cache(maxsize=1)
def _tracer() -> str:
    """What a trace depends on beside its model: our own code, and the packages it calls."""
    digest = hashlib.sha256()
    root = Path(remora.__file__).parent
    for folder in ("graph", "zoo"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    for package in _TRACED_BY:
        digest.update(f"{package} {_version(package)}".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
