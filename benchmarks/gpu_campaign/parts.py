"""The parts of a campaign: what is asked of which model, in order of what matters most.

Each part is a process: starting, building and tracing is paid once for all of its sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remora.errors import UnknownNameError

__all__ = ["REAL", "SIZES", "TINY", "Part", "parts_of"]

REAL, TINY = "real", "tiny"
SIZES = (REAL, TINY)
"""Real ones for a GPU; those of tests for a CPU, and for a first look at a GPU."""

CORE = ("gradients", "prediction")
WITH_OVERLAP = (*CORE, "overlap")


@dataclass(frozen=True)
class Part:
    """Sections that run on one model and size.

    Attributes:
        name: of the part.
        model: in `conf/model`, or any name where `target` is given.
        values: instead of those of its file.
        small: model of `conf/model` on which gradients are checked; empty for the model itself.
        sections: in order; names of :data:`benchmarks.gpu_campaign.sections.SECTIONS`.
        plans: whose predictions are held against measurements; names of
            :mod:`benchmarks.gpu_campaign.plans`, empty for all.
        block: class of the blocks that PyTorch's checkpointing is put around.
        library: package that the model needs.
        target: ``package.module:function`` that builds a model that is not in `conf/model`.
        optimizer: of the measured steps.
        limit_bytes: of memory, in the search for the largest batch on CUDA.
        least_s: seconds without which there is no use in starting.
        limit_s: most seconds of one of its processes.
    """

    name: str
    model: str
    values: Mapping[str, Any] = field(default_factory=dict)
    small: str = ""
    sections: tuple[str, ...] = CORE
    plans: tuple[str, ...] = ()
    block: str = ""
    library: str = "transformers"
    target: str = ""
    optimizer: str = "adamw"
    limit_bytes: int = 1 << 30
    least_s: float = 45.0
    limit_s: float = 180.0


@dataclass(frozen=True)
class _Model:
    """A model at its real size on a GPU, and at the size of tests."""

    name: str
    small: str
    values: Mapping[str, Any]
    block: str = ""
    library: str = "transformers"


_MODELS = {
    model.name: model
    for model in (
        _Model("gpt2", "gpt2_tiny", {"batch": 16}, "GPT2Block"),
        _Model("resnet50", "resnet_tiny", {"batch": 128}, "ResNetBottleNeckLayer"),
        _Model("bert_base", "bert_tiny", {"batch": 32}, "BertLayer"),
        _Model("unet", "unet_tiny", {"batch": 32}, library="torch"),
        _Model("vit_base", "vit_tiny", {"batch": 128}, "ViTLayer"),
        _Model("llama_1b", "llama_tiny", {"batch": 4}, "LlamaDecoderLayer"),
        _Model("t5_small", "t5_tiny", {"batch": 32}, "T5Block"),
        _Model("swin_tiny", "swin_test", {"batch": 128}),
        _Model("convnext_tiny", "convnext_test", {"batch": 128}),
        _Model("climate_unet", "climate_unet_tiny", {"batch": 32}, library="torch"),
        _Model("qwen3_0_6b", "qwen3_tiny", {"batch": 4}),
        # Its plain form keeps a tensor of chunk times chunk per head and state.
        _Model("mamba2_130m", "mamba2_tiny", {"batch": 1, "sequence": 512, "chunk": 64}),
        _Model("fno2d", "fno2d_tiny", {"batch": 64}, library="neuralop"),
    )
}

# (model, what): core parts give most per second; PyTorch's compiler takes longest.
_ORDER = (
    ("gpt2", "core"),
    ("resnet50", "core"),
    ("resnet50", "protocol"),
    ("bert_base", "core"),
    ("unet", "core"),
    ("vit_base", "core"),
    ("llama_1b", "core"),
    ("t5_small", "core"),
    ("swin_tiny", "core"),
    ("gpt2", "alternatives"),
    ("climate_unet", "core"),
    ("convnext_tiny", "core"),
    ("gpt2", "largest batch"),
    ("qwen3_0_6b", "core"),
    ("mamba2_130m", "core"),
    ("fno2d", "core"),
    ("resnet50", "alternatives"),
    ("resnet50", "largest batch"),
    ("bert_base", "alternatives"),
    ("gpt2", "compiler"),
    ("resnet50", "compiler"),
)

_OVERLAPPED = frozenset({"gpt2", "resnet50", "bert_base", "unet", "vit_base", "llama_1b"})
_VERIFIED = frozenset({"gpt2", "resnet50", "unet", "llama_1b"})
"""At their real size, too."""

# The batch of MONeT's tables (Shah et al. 2021).
_PROTOCOL_BATCH = 184
_TINY_PROTOCOL_BATCH = 64
"""So that activations and not weights fill the memory."""

_LIMIT_BYTES = 16 << 30
_TINY_LIMIT_BYTES = 1 << 30
_TINY_LEAST_S = 5.0
_TINY_PLANS = ("keep_all", "offload_all", "rotor at 0.2", "greedy at 0.2", "mix 0")


def parts_of(sizes: str, models: Sequence[str] = ()) -> list[Part]:
    """Return the parts in the order in which they run.

    Args:
        sizes: of the models, one of :data:`SIZES`.
        models: names of the real models; empty for all.

    Raises:
        UnknownNameError: no such sizes, or no such model.
    """
    if sizes not in SIZES:
        raise UnknownNameError("sizes", sizes, SIZES)
    for name in models:
        if name not in _MODELS:
            raise UnknownNameError("model", name, _MODELS)
    return [
        _part(_MODELS[name], what, sizes == TINY)
        for name, what in _ORDER
        if name in models or not models
    ]


def _part(model: _Model, what: str, tiny: bool) -> Part:
    sections: tuple[str, ...] = (what.replace(" ", "_"),)
    values = {} if tiny else dict(model.values)
    if what == "core":
        sections = WITH_OVERLAP if model.name in _OVERLAPPED else CORE
        sections += ("real_gradients",) if model.name in _VERIFIED else ()
    if what == "protocol":
        values["batch"] = _TINY_PROTOCOL_BATCH if tiny else _PROTOCOL_BATCH
    return Part(
        name=f"{model.name}: {what}",
        model=model.small if tiny else model.name,
        values=values,
        small=model.small,
        sections=sections,
        plans=_TINY_PLANS if tiny else (),
        block=model.block,
        library=model.library,
        optimizer="sgd_momentum" if what == "protocol" else "adamw",
        limit_bytes=_TINY_LIMIT_BYTES if tiny else _LIMIT_BYTES,
        least_s=_TINY_LEAST_S if tiny else 45.0,
    )
