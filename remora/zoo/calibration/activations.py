"""Element-wise functions, as one fused operator or written out of simpler ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ACTIVATIONS", "Activation"]


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_written(x: Tensor) -> Tensor:
    cubic = x + 0.044715 * torch.pow(x, 3.0)
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * cubic))


def _gelu_erf_written(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _swish_written(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _exp_gate(x: Tensor) -> Tensor:
    return x * torch.exp(-F.softplus(x))


def _exp_written(x: Tensor) -> Tensor:
    return x / (1.0 + torch.exp(-x.clamp(min=-20.0)))


def _signed_log(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.log(1.0 - x.clamp(max=0.0)), torch.log1p(x.clamp(min=0.0)))


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "gelu_written": _gelu_written,
    "gelu_erf_written": _gelu_erf_written,
    "silu": F.silu,
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "swish_written": _swish_written,
    "exp_gate": _exp_gate,
    "exp_written": _exp_written,
    "signed_log": _signed_log,
}


class Activation(nn.Module):
    """One of ``ACTIVATIONS``, drawn."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.name = rng.choice(list(ACTIVATIONS))

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape element by element."""
        return ACTIVATIONS[self.name](x)
