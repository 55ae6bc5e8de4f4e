"""Every section by name, and which of them need another batch after lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.gpu_campaign.alternatives import alternatives, compiler
from benchmarks.gpu_campaign.gradients import gradients, real_gradients
from benchmarks.gpu_campaign.largest_batch import largest_batch
from benchmarks.gpu_campaign.overlap import overlap
from benchmarks.gpu_campaign.prediction import prediction
from benchmarks.gpu_campaign.protocol import protocol
from benchmarks.gpu_campaign.subject import Items, Subject

__all__ = ["SECTIONS"]

SECTIONS: Mapping[str, Callable[[Subject], Items]] = {
    "gradients": gradients,
    "real_gradients": real_gradients,
    "prediction": prediction,
    "overlap": overlap,
    "largest_batch": largest_batch,
    "alternatives": alternatives,
    "compiler": compiler,
    "protocol": protocol,
}
"""Each yields its items one after the other and may look at ``subject.known`` in between."""
