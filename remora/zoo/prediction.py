"""The output of the models of this package that compute their own loss."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Prediction"]


class Prediction(NamedTuple):
    """A loss and the prediction it judges; a tuple, so that PyTorch sees the tensors in it.

    Attributes:
        loss: scalar ``[]``.
        prediction: what the model computed, its batch first.
    """

    loss: Tensor
    prediction: Tensor
