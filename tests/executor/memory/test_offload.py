"""Offloading: what moves when, and that memory falls on the device by just that."""

from __future__ import annotations

import dataclasses
import gc

import torch
from torch import Tensor

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.host_pool import HostPool, size_class_bytes
from remora.executor.memory.install import apply
from remora.executor.memory.mover import CpuMover
from remora.executor.memory.offload import ForwardClock, OffloadTimeline
from remora.schedule.schedule import Action, Group
from tests.executor.memory.plans import differences, run_steps, schedule
from tests.executor.memory.toys import chain

NUM_UNITS = 4


class CountingMover(CpuMover):
    """A mover that notes every copy."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def to_host(self, content: Tensor):  # type: ignore[no-untyped-def]
        self.log.append("down")
        return super().to_host(content)

    def to_device(self, block, written):  # type: ignore[no-untyped-def]
        self.log.append("up")
        return super().to_device(block, written)


def _timeline(window: int, distance: int) -> tuple[OffloadTimeline, CountingMover, ForwardClock]:
    mover, clock = CountingMover(), ForwardClock()
    return OffloadTimeline(mover, clock, NUM_UNITS, window, distance), mover, clock


def _forwards(clock: ForwardClock, count: int) -> None:
    for _ in range(count):
        clock.start_forward()


def _on_device(reference: torch.multiprocessing.reductions.StorageWeakRef) -> bool:
    return not reference.expired()


def _saved(tensor: Tensor) -> torch.multiprocessing.reductions.StorageWeakRef:
    return torch.multiprocessing.reductions.StorageWeakRef(tensor.untyped_storage())


def test_device_memory_is_released_where_the_window_ends() -> None:
    timeline, mover, clock = _timeline(window=2, distance=1)
    tensor = torch.randn(8, 3)
    values, storage = tensor.clone(), _saved(tensor)
    saved = timeline.offload(tensor, unit=1, last_unit=1)
    del tensor
    clock.start_forward()
    assert _on_device(storage)
    clock.start_forward()
    assert not _on_device(storage)
    assert mover.log == ["down"]
    assert torch.equal(saved.open(), values)
    assert mover.log == ["down", "up"]


def test_the_last_units_are_released_when_the_backward_begins() -> None:
    timeline, _, clock = _timeline(window=2, distance=1)
    tensor = torch.randn(8, 3)
    storage = _saved(tensor)
    saved = timeline.offload(tensor, unit=2, last_unit=2)
    del tensor
    clock.start_forward()
    assert _on_device(storage)
    timeline.reach(3)
    assert not _on_device(storage)
    assert saved.open().shape == (8, 3)


def test_copies_back_are_issued_at_their_distance() -> None:
    timeline, mover, clock = _timeline(window=1, distance=2)
    first = timeline.offload(torch.randn(5), unit=0, last_unit=0)
    second = timeline.offload(torch.randn(5), unit=3, last_unit=3)
    _forwards(clock, NUM_UNITS)
    timeline.reach(3)
    assert mover.log == ["down", "down", "up"]
    second.open()
    timeline.reach(2)
    assert mover.log == ["down", "down", "up", "up"]
    first.open()
    assert len(mover.log) == 4


def test_a_tensor_that_nobody_fetched_early_is_fetched_when_needed() -> None:
    timeline, mover, clock = _timeline(window=1, distance=1)
    saved = timeline.offload(torch.arange(6.0), unit=0, last_unit=0)
    clock.start_forward()
    assert saved.open().tolist() == [0, 1, 2, 3, 4, 5]
    assert mover.log == ["down", "up"]


def test_views_of_one_storage_share_a_copy() -> None:
    timeline, mover, clock = _timeline(window=1, distance=1)
    base = torch.randn(4, 6)
    views = [base.t(), base[1:, ::2], torch.view_as_complex(base.view(4, 3, 2)).conj()]
    expected = [view.clone() for view in views]
    saved = [timeline.offload(view, unit=0, last_unit=0) for view in views]
    del base, views
    clock.start_forward()
    assert mover.log == ["down"]
    for one, value in zip(saved, expected, strict=True):
        assert torch.equal(one.open(), value)
    assert mover.log == ["down", "up"]


def test_host_memory_is_reused() -> None:
    timeline, mover, _ = _timeline(window=1, distance=1)
    for _ in range(3):
        saved = timeline.offload(torch.randn(100), unit=0, last_unit=0)
        del saved
    assert mover.pool.bytes_in_use == 0
    assert mover.pool.peak_bytes == 400


def test_size_classes_waste_at_most_a_quarter() -> None:
    for size in range(513, 100_000, 37):
        assert size <= size_class_bytes(size) <= 1.25 * size
    pool = HostPool(pinned=False)
    block = pool.acquire(1000)
    pool.give_back(block)
    assert pool.acquire(size_class_bytes(1000)) is block


def test_live_memory_falls() -> None:
    model, inputs, graph = chain(6, width=16, batch=1024)

    def peak_bytes(plan: object) -> int:
        with apply(model, graph, plan):  # type: ignore[arg-type]
            return cpu_peak_bytes(lambda: run_steps(model, inputs))

    keep = peak_bytes(schedule(graph))
    recompute = peak_bytes(schedule(graph, Action.RECOMPUTE))
    offload = peak_bytes(schedule(graph, Action.OFFLOAD))
    first, middle, last = Group(0, 2), Group(2, 4), Group(4, 6)
    grouped = peak_bytes(schedule(graph, Action.RECOMPUTE, (first, middle, last)))
    moved = dataclasses.replace(middle, checkpoint=Action.OFFLOAD)
    checkpoints = peak_bytes(schedule(graph, Action.RECOMPUTE, (first, moved, last)))
    assert recompute < 0.6 * keep
    assert offload < 0.7 * keep
    assert grouped < recompute
    assert checkpoints < grouped


def test_a_longer_window_holds_more() -> None:
    model, inputs, graph = chain(6, width=64, batch=256)
    peaks = []
    for window in (1, 2, 4):
        with apply(model, graph, schedule(graph, Action.OFFLOAD, window=window)):
            peaks.append(cpu_peak_bytes(lambda: model(*inputs)))
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[-1]


def test_an_offloaded_checkpoint_is_private_and_exact() -> None:
    model, inputs, graph = chain(5, width=32, batch=16)
    plain = run_steps(model, inputs)
    plan = schedule(graph, groups=(Group(2, 4, checkpoint=Action.OFFLOAD),))
    with apply(model, graph, plan) as handle:
        assert differences(plain, run_steps(model, inputs)) == []
    # The hidden state that enters unit 2; the mask is an input of the model and stays.
    assert handle.host_peak_bytes == 4 * 16 * 32


def test_nothing_outlives_a_step_without_the_garbage_collector() -> None:
    model, inputs, graph = chain(6, width=16, batch=256)
    plan = schedule(
        graph,
        {1: Action.OFFLOAD, 5: Action.RECOMPUTE},
        groups=(Group(2, 5, checkpoint=Action.OFFLOAD, children=(Group(3, 5),)),),
    )

    def steps(count: int) -> None:
        for _ in range(count):
            model(*inputs).square().sum().backward()
            model.zero_grad(set_to_none=True)
            inputs[0].grad = None

    gc.disable()
    try:
        with apply(model, graph, plan) as handle:
            steps(1)
            assert cpu_peak_bytes(lambda: steps(1)) == cpu_peak_bytes(lambda: steps(4))
            model(*inputs)
            assert handle.host_bytes == 0
    finally:
        gc.enable()
