"""Which layers of a model are cut over ranks, and in which way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from torch import nn

from remora.errors import InvalidInputError

__all__ = ["Style", "allowed_degrees", "check_degree", "tensor_plan"]


class Style(StrEnum):
    """How a layer is cut; the names are those of transformers.

    Colwise layers make a slice of their output from the whole input, rowwise ones a part of the
    sum from a slice of it. ``GATHERED`` joins the slices, ``EMBEDDING`` holds some rows of a table
    and ``SUMMED`` is whole on every rank and works on slices, so its gradient has to be summed.
    """

    COLWISE = "colwise"
    ROWWISE = "rowwise"
    GATHERED = "colwise_gather_output"
    EMBEDDING = "embedding_rowwise"
    SUMMED = "replicated_with_grad_allreduce"


_REGISTERED: Mapping[str, Mapping[str, str]] = {
    "BertForMaskedLM": {
        "bert.encoder.layer.*.attention.self.query": "colwise",
        "bert.encoder.layer.*.attention.self.key": "colwise",
        "bert.encoder.layer.*.attention.self.value": "colwise",
        "bert.encoder.layer.*.attention.output.dense": "rowwise",
        "bert.encoder.layer.*.intermediate.dense": "colwise",
        "bert.encoder.layer.*.output.dense": "rowwise",
    },
    "ViTForImageClassification": {
        "vit.layers.*.attention.q_proj": "colwise",
        "vit.layers.*.attention.k_proj": "colwise",
        "vit.layers.*.attention.v_proj": "colwise",
        "vit.layers.*.attention.o_proj": "rowwise",
        "vit.layers.*.mlp.fc1": "colwise",
        "vit.layers.*.mlp.fc2": "rowwise",
    },
}
"""Plans of models whose library has none, by class; ``*`` stands for one number."""

_HEADS = ("num_attention_heads", "num_key_value_heads")


def tensor_plan(model: nn.Module) -> dict[str, Style]:
    """The style of every layer that is cut, by module path; empty if the model has no plan.

    A model says it with an attribute ``tensor_parallel_plan`` (path, ``*`` for a number, to
    style) or as transformers do (``base_model_tp_plan`` of the config). Where the output head is
    cut, the input embedding is too.

    Raises:
        InvalidInputError: the plan has a style that is not among :class:`Style`.
    """
    patterns = _patterns(model)
    found: dict[str, Style] = {}
    for path, module in model.named_modules():
        style = _style_of(path, patterns)
        if style is not None:
            found[path] = _checked(path, module, style)
    if Style.GATHERED in found.values():
        found |= _embedding(model)
    return found


def allowed_degrees(model: nn.Module, most: int) -> tuple[int, ...]:
    """Degrees up to ``most`` that a model can be cut to, 1 first."""
    plan = tensor_plan(model)
    limits = _limits(model, plan).values()
    return tuple(
        degree
        for degree in range(1, most + 1)
        if degree == 1 or (plan and all(size % degree == 0 for size in limits))
    )


def check_degree(model: nn.Module, degree: int) -> None:
    """Refuse a degree that a model cannot be cut to.

    Raises:
        InvalidInputError: no plan, or heads or a width that the degree does not divide.
    """
    if degree == 1:
        return
    plan = tensor_plan(model)
    if degree < 1 or not plan:
        why = "" if degree < 1 else f" and {type(model).__name__} has no tensor-parallel plan"
        raise InvalidInputError(f"tensor.degree is {degree}{why}; allowed: 1")
    for what, size in _limits(model, plan).items():
        if size % degree:
            allowed = ", ".join(map(str, allowed_degrees(model, size)))
            raise InvalidInputError(
                f"tensor.degree is {degree}, which does not divide {what}={size}; "
                f"allowed: {allowed}"
            )


def cut_dimension(style: Style) -> int | None:
    """Dimension of a weight that a style cuts; None for what stays whole."""
    if style is Style.SUMMED:
        return None
    return 1 if style is Style.ROWWISE else 0


def _limits(model: nn.Module, plan: Mapping[str, Style]) -> dict[str, int]:
    """Numbers that a degree has to divide, by name."""
    config = getattr(model, "config", model)
    limits = {
        name: int(heads) for name in _HEADS if isinstance(heads := getattr(config, name, None), int)
    }
    for path, style in plan.items():
        dimension = cut_dimension(style)
        if dimension is not None:
            weight = model.get_submodule(path).weight
            assert isinstance(weight, nn.Parameter)
            limits[f"the width of {path}"] = int(weight.shape[dimension])
    return limits


def _patterns(model: nn.Module) -> Mapping[str, Any]:
    own = getattr(model, "tensor_parallel_plan", None)
    if own is None:
        own = getattr(model, "tp_plan", None)
    return own or _REGISTERED.get(type(model).__name__, {})


def _style_of(path: str, patterns: Mapping[str, Any]) -> str | None:
    style = patterns.get(path, patterns.get(re.sub(r"\.\d+(?=\.|$)", ".*", path)))
    return None if style is None else str(style)


def _checked(path: str, module: nn.Module, style: str) -> Style:
    fits = nn.Embedding if style == Style.EMBEDDING else nn.Linear
    if style not in tuple(Style) or (style != Style.SUMMED and not isinstance(module, fits)):
        raise InvalidInputError(
            f"the tensor-parallel plan says {style!r} for {path!r}, a {type(module).__name__}; "
            f"allowed: {', '.join(Style)}, of Linear and Embedding layers"
        )
    return Style(style)


def _embedding(model: nn.Module) -> dict[str, Style]:
    """The input embedding of a transformers model."""
    get = getattr(model, "get_input_embeddings", None)
    table = None if get is None else get()
    return {
        p: Style.EMBEDDING for p, m in model.named_modules() if table is not None and m is table
    }
