"""ZeRO on two replicas: gradients and trained weights of the single process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from remora.errors import InvalidInputError
from remora.executor.state.sharding import Replicas
from remora.executor.training import ways_apart
from remora.schedule.schedule import Placement, StatePlan
from tests.executor.state.replicas import (
    REPLICAS,
    Case,
    make_model,
    on_replicas,
    single_process,
)

CASES = {
    f"zero {stage} {optimizer}": Case(StatePlan(zero_stage=stage), optimizer)
    for stage in range(4)
    for optimizer in ("sgd_momentum", "adamw")
}
CASES |= {
    f"zero {stage} on host": Case(StatePlan(optimizer=Placement.HOST, zero_stage=stage), "adamw")
    for stage in (0, 2, 3)
}
if importlib.util.find_spec("torchao") is not None:
    CASES |= {
        f"zero {stage} in eight bits": Case(
            StatePlan(optimizer=Placement.EIGHT_BIT, zero_stage=stage), "adamw"
        )
        for stage in (1, 3)
    }

TOLERANCE = 1e-6

Results = dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder: Path = tmp_path_factory.mktemp("replicas")
    context = torch.multiprocessing.spawn(
        on_replicas, (CASES, str(folder)), nprocs=REPLICAS, join=False
    )
    while not context.join(timeout=120):
        pass
    loaded: Results = torch.load(folder / "out")
    return loaded


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_mean_loss(results: Results, name: str) -> None:
    single, (gradients, _) = single_process(CASES[name].optimizer), results[name]
    assert gradients.keys() == single.gradients.keys()
    for weight, gradient in single.gradients.items():
        gap = (gradients[weight] - gradient).abs().max()
        assert gap <= TOLERANCE * gradient.abs().max(), weight


@pytest.mark.parametrize("name", CASES)
def test_weights_after_three_steps(results: Results, name: str) -> None:
    single, (_, weights) = single_process(CASES[name].optimizer), results[name]
    start = dict(make_model().named_parameters())
    assert torch.equal(weights["blocks.2.up.weight"], start["blocks.2.up.weight"])
    # Adam makes a whole step of a gradient that is zero but for rounding.
    tolerance = 1e-5 if CASES[name].optimizer == "sgd_momentum" else 1e-3
    assert ways_apart(start, single.weights, weights) < tolerance


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            StatePlan(gradients=Placement.HOST, optimizer=Placement.HOST),
            "state.gradients is 'host'; allowed on replicas",
        ),
        (
            StatePlan(optimizer=Placement.HOST, zero_stage=1),
            "state.optimizer is 'host' with state.zero_stage=1",
        ),
    ],
)
def test_what_replicas_cannot_do_is_refused(plan: StatePlan, message: str) -> None:
    model = make_model()
    with pytest.raises(InvalidInputError, match=message):
        Replicas([model], [model.units()], (), plan, None, torch.device("cpu"))  # type: ignore[arg-type]
