"""Measuring time and memory of a step, on models whose bytes can be counted by hand."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

from remora.errors import UnknownNameError
from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.measure import failed_measurement, measure_step
from remora.executor.step import TrainingStep, preserved


def test_peak_of_allocations_made_by_hand() -> None:
    def work() -> None:
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(500, dtype=torch.uint8)
        del first
        third = torch.empty(700, dtype=torch.uint8)
        del second, third

    assert cpu_peak_bytes(work) == 1500


def test_nothing_allocated() -> None:
    assert cpu_peak_bytes(lambda: None) == 0


class Product(nn.Module):
    """x * w, summed; saves both factors."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def test_peak_of_a_step_counted_by_hand() -> None:
    size = 25_000
    model, inputs = Product(size), (torch.ones(size),)
    measured = measure_step(model, inputs, lambda y: y.sum(), optimizer_name="none")
    # Weight, batch, product while it is summed; then the sum, its gradient (a view of one
    # number) and the weight's gradient.
    vectors = 4 * size
    assert measured.status == "ok"
    assert 3 * vectors <= measured.peak_memory_bytes <= 3 * vectors + 64
    assert measured.step_time_s > 0
    assert len(measured.step_times_s) >= 3


def test_resident_bytes_count_shared_storages_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    batch = torch.zeros(4, 8)
    step = TrainingStep(model, (batch,), None, "adamw")
    assert step.resident_bytes() == 4 * (64 + 32)
    step.run()
    assert step.resident_bytes() == 4 * (64 + 32 + 2 * 64 + 1)


def test_a_step_that_fails_is_a_measurement() -> None:
    model = nn.Linear(4, 4)
    measured = measure_step(model, (torch.zeros(3, 5),))
    assert measured.status == "crashed"
    assert "shapes cannot be multiplied" in measured.detail


def test_running_out_of_memory_has_a_status_of_its_own() -> None:
    try:
        torch.empty(1 << 50)
    except RuntimeError as error:
        measured = failed_measurement(error, "cpu")
    assert measured.status == "out_of_memory"


def test_unknown_optimizer() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*'adamw'"):
        measure_step(nn.Linear(2, 2), (torch.zeros(1, 2),), optimizer_name="adamv")


def test_preserved_puts_everything_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    inputs = (torch.randn(8, 4),)
    model(*inputs).sum().backward()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad for p in model.parameters()]
    random_state = torch.get_rng_state()
    with contextlib.suppress(KeyError), preserved(model):
        assert all(p.grad is None for p in model.parameters())
        measure_step(model, inputs)
        raise KeyError
    assert all(torch.equal(value, values[n]) for n, value in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
