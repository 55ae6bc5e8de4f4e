"""Int8 copies: their size, their error, and what a step under them looks like."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from remora.errors import InvalidInputError
from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.compression import CompressedStorage, compress, restore
from remora.executor.memory.install import apply
from remora.executor.verify import verify
from remora.graph.trace import trace
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from tests.executor.memory.plans import StepResult, run_steps
from tests.executor.memory.toys import chain
from tests.problems import BlockChain

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 255, 256, 257, 2048, 2049, 70_001])
def test_every_block_is_exact_to_half_a_step(dtype: torch.dtype, count: int) -> None:
    torch.manual_seed(count)
    # Blocks of very different magnitude.
    values = torch.randn(count) * torch.logspace(-3, 3, count)
    values = values.to(dtype)
    codes, scales = compress(values)
    assert (codes.shape, codes.dtype) == ((count,), torch.int8)
    assert (scales.shape, scales.dtype) == ((-(-count // 256),), torch.float32)
    again = restore(codes, scales, dtype)
    assert again.dtype == dtype
    for block, then in zip(values.double().split(256), again.double().split(256), strict=True):
        rounding = torch.finfo(dtype).eps * block.abs().max()
        assert (block - then).abs().max() <= block.abs().max() / 252 * 1.01 + rounding


def test_zeros_and_what_is_not_finite() -> None:
    values = torch.zeros(600)
    assert torch.equal(restore(*compress(values), torch.float32), values)
    values[3] = float("nan")
    values[300] = float("-inf")
    values[599] = float("inf")
    again = restore(*compress(values), torch.float32)
    assert again[:256].isnan().all()
    assert again[300] < -3e38
    assert again[599] > 3e38
    assert again[256:300].abs().max() == 0


def test_temporaries_are_small() -> None:
    values = torch.randn(1 << 20)
    codes, scales = compress(values)
    copy_bytes = codes.nbytes + scales.nbytes
    assert copy_bytes < 0.26 * values.nbytes
    assert cpu_peak_bytes(lambda: compress(values)) < copy_bytes + 0.1 * values.nbytes
    assert cpu_peak_bytes(lambda: restore(codes, scales, torch.float32)) < 1.1 * values.nbytes


def test_a_storage_is_restored_once_and_its_copy_freed() -> None:
    values = torch.randn(4096)
    packed = CompressedStorage(values.untyped_storage(), torch.float32, judge=True)
    assert packed.error is not None
    assert 0.001 < packed.error < 1 / 250
    packed.restore()
    storage = packed.storage()
    assert packed.storage() is storage
    assert storage.nbytes() == values.nbytes


def compressing(graph, *units: int) -> Schedule:  # type: ignore[no-untyped-def]
    options = tuple(
        UnitOption(
            tuple(
                (saved.name, Action.COMPRESS if unit.index in units else Action.KEEP)
                for saved in unit.saved
            )
        )
        for unit in graph.units
    )
    return Schedule(graph.content_hash, MemoryPlan(options))


def test_compression_has_to_be_allowed() -> None:
    model, _, graph = chain(2)
    with pytest.raises(InvalidInputError, match="allow_lossy"):
        apply(model, graph, compressing(graph, 0))
    assert "forward" not in vars(model)


def test_a_step_under_compression() -> None:
    torch.manual_seed(1)
    model, inputs = BlockChain((64, 64, 64)), (torch.randn(256, 16),)
    graph = trace(model, inputs)
    plan = compressing(graph, 0, 1)

    def peak_bytes() -> int:
        return cpu_peak_bytes(lambda: run_steps(model, inputs))

    plain, plain_peak = run_steps(model, inputs), peak_bytes()
    with apply(model, graph, plan, allow_lossy=True) as handle:
        lossy, lossy_peak = run_steps(model, inputs), peak_bytes()
        errors = handle.compression_error
    assert torch.equal(plain.loss, lossy.loss)
    assert torch.equal(plain.random_state, lossy.random_state)
    assert lossy_peak < 0.8 * plain_peak
    assert errors
    assert all(name.split(" ")[0] in {u.name for u in graph.units} for name in errors)
    assert all(0 <= error < 1 / 250 for error in errors.values())
    assert 0 < distance(plain, lossy) < 0.01


def distance(a: StepResult, b: StepResult) -> float:
    """Of all gradients together, relative to those of ``a``."""
    names = [name for name, gradient in a.gradients.items() if gradient is not None]
    first, second = (
        torch.cat([result.gradients[name].flatten() for name in names])  # type: ignore[union-attr]
        for result in (a, b)
    )
    return float((first - second).norm() / first.norm())


def test_a_relu_stays_exact() -> None:
    # The gradient of the first layer only asks where the result of relu was positive.
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Flatten())
    inputs = (torch.randn(64, 16),)
    graph = trace(model, inputs, units=["2"])
    plain = run_steps(model, inputs, loss=torch.sum)
    with apply(model, graph, compressing(graph, 0), allow_lossy=True) as handle:
        lossy = run_steps(model, inputs, loss=torch.sum)
        assert handle.compression_error
    assert distance(plain, lossy) == 0


def test_masks_and_weights_stay_as_they_are() -> None:
    # Dropout in evaluation mode and no activation of another type: nothing is compressed that
    # the planner does not count.
    model, inputs = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8)), (torch.arange(10),)
    graph = trace(model, inputs, units=["1"])
    with apply(model, graph, compressing(graph, 0, 1), allow_lossy=True) as handle:
        run_steps(model, inputs)
        assert len(handle.compression_error) == 1


def test_verify_tells_the_error_of_what_is_compressed() -> None:
    model, inputs, graph = chain(3, width=16, batch=64)
    plan = compressing(graph, 0, 1)
    with pytest.raises(InvalidInputError, match="allow_lossy"):
        verify(model, inputs, None, graph, plan, repetitions=3)
    verdict = verify(model, inputs, None, graph, plan, repetitions=3, allow_lossy=True)
    assert verdict.passed, verdict
    assert 0 < verdict.max_gradient_difference < 0.05
    assert not verdict.gradients_differ
    assert verdict.worst_gradient
    assert "compressed, with errors up to 0." in verdict.detail
