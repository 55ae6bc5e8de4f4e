"""What the callbacks share: their arguments, their example batch, what they leave alone."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from remora.api.loops.example_batch import example_batch
from remora.api.loops.planned_training import PlannedTraining, TrainingStep, optimizer_name
from remora.errors import InvalidInputError, MissingExtraError
from remora.schedule.schedule import Placement, StatePlan
from tests.api.small_models import make_stack, small_plan

LIBRARIES = {"RemoraCallback": "transformers", "RemoraLightningCallback": "lightning"}


def test_a_budget_or_a_plan_is_needed() -> None:
    with pytest.raises(InvalidInputError, match="memory is None and plan is None"):
        PlannedTraining(None, None, {})
    plan = small_plan()
    with pytest.raises(InvalidInputError, match="memory is '8GiB' and plan is not None"):
        PlannedTraining("8GiB", plan, {})
    with pytest.raises(InvalidInputError, match="agent, time_limit_s came with a finished plan"):
        PlannedTraining(None, plan, {"time_limit_s": 1.0, "agent": "greedy"})
    with pytest.raises(InvalidInputError, match="8 apples"):
        PlannedTraining("8 apples", None, {})


def test_planning_draws_no_random_numbers() -> None:
    model, inputs = make_stack()

    def step() -> TrainingStep:
        random.random(), np.random.rand(), torch.rand(1)
        return TrainingStep(inputs, "sgd", accumulates=False)

    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    training = PlannedTraining("range:0.5", None, {"hardware": "rtx3090", "agent": "random"})
    training.begin(model, step)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert training.plan is not None
    assert training.plan.problem.optimizer.name == "sgd"
    assert "forward" in vars(model)
    training.begin(model, step)
    training.end()
    training.end()
    assert "forward" not in vars(model)


def test_plans_that_move_the_state_are_refused() -> None:
    model, inputs = make_stack()
    plan = small_plan()
    state = StatePlan(optimizer=Placement.HOST)
    moved = dataclasses.replace(plan, schedule=dataclasses.replace(plan.schedule, state=state))
    training = PlannedTraining(None, moved, {})
    with pytest.raises(InvalidInputError, match="move_state=False"):
        training.begin(model, lambda: TrainingStep(inputs, "adamw", accumulates=False))
    assert "forward" not in vars(model)


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (torch.optim.AdamW, "adamw"),
        (torch.optim.Adam, "adamw"),
        (torch.optim.RMSprop, "adamw"),
        (torch.optim.SGD, "sgd"),
    ],
)
def test_optimizers_are_named(optimizer: type[torch.optim.Optimizer], name: str) -> None:
    assert optimizer_name(optimizer([torch.nn.Parameter(torch.ones(1))], lr=0.1)) == name


def test_momentum_is_counted() -> None:
    weights = [torch.nn.Parameter(torch.ones(1))]
    assert optimizer_name(torch.optim.SGD(weights, lr=0.1, momentum=0.9)) == "sgd_momentum"


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield from range(10)


class Batches(Dataset[torch.Tensor]):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3,), index)

    def __len__(self) -> int:
        return 2


def test_batches_of_every_kind_of_loader() -> None:
    data = TensorDataset(torch.arange(10))
    (shuffled,) = example_batch(DataLoader(data, batch_size=4, shuffle=True))
    assert shuffled.tolist() == [0, 1, 2, 3]
    assert len(example_batch(DataLoader(data, batch_size=40))[0]) == 10
    own = DataLoader(data, batch_sampler=[[5, 6], [7]])
    assert example_batch(own)[0].tolist() == [5, 6]
    assert example_batch(DataLoader(Stream(), batch_size=3)).tolist() == [0, 1, 2]
    assert example_batch(DataLoader(Stream(), batch_size=None)) == 0
    assert example_batch(DataLoader(Batches(), batch_size=None)).tolist() == [0, 0, 0]
    assert example_batch(["first", "second"]) == "first"


def test_the_sampler_stays_where_it_is() -> None:
    data = TensorDataset(torch.arange(10))
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size=4, sampler=RandomSampler(data, generator=generator))
    before = generator.get_state()
    example_batch(loader)
    assert torch.equal(generator.get_state(), before)


def test_no_library_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, remora, remora.api.loops, remora.api.loops.planned_training; "
        "print({'transformers', 'lightning', 'accelerate'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from remora.api import loops

    kind = LIBRARIES[name]
    monkeypatch.setitem(sys.modules, kind, None)
    monkeypatch.setitem(sys.modules, f"{kind}.pytorch", None)
    monkeypatch.delitem(sys.modules, f"remora.api.loops.{kind}_callback", raising=False)
    with pytest.raises(MissingExtraError, match=f"{kind}.*install the extra 'loops'"):
        getattr(loops, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    from remora.api import loops

    with pytest.raises(AttributeError, match="no attribute 'KerasCallback'"):
        _ = loops.KerasCallback
