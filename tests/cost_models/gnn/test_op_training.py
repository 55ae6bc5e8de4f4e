from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remora.cost_models.gnn.op_model import OpTimeModel, fit_op_model
from remora.errors import FileFormatError, InvalidInputError
from tests.cost_models.gnn.op_runs import QUICK, quick_model, real_runs


class KilledError(Exception):
    """Stands for the end of the process."""


def same(one: OpTimeModel, other: OpTimeModel) -> bool:
    first, second = one.state()[0], other.state()[0]
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_same_seed_same_model() -> None:
    assert same(fit_op_model(real_runs(), QUICK), quick_model())
    assert not same(fit_op_model(real_runs(), replace(QUICK, seed=1)), quick_model())


@pytest.mark.parametrize("steps", [1, 2])
def test_training_goes_on_where_it_was_killed(tmp_path: Path, steps: int) -> None:
    checkpoint = tmp_path / "op.pt"
    seen: list[int] = []

    def die(metrics: Mapping[str, float], step: int) -> None:
        seen.append(step)
        if len(seen) > steps:
            raise KilledError

    with pytest.raises(KilledError):
        fit_op_model(real_runs(), QUICK, die, checkpoint)
    assert checkpoint.exists()
    told: list[int] = []
    model = fit_op_model(real_runs(), QUICK, lambda metrics, step: told.append(step), checkpoint)
    assert same(model, quick_model())
    assert len(told) == QUICK.epochs - steps


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "op.pt"
    fit_op_model(real_runs()[:1], QUICK, checkpoint=checkpoint)
    with pytest.raises(FileFormatError, match="belongs to a training on other data"):
        fit_op_model(real_runs()[:2], QUICK, checkpoint=checkpoint)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="cannot be read"):
        fit_op_model(real_runs()[:1], QUICK, checkpoint=checkpoint)


def test_watch_sees_the_loss_fall() -> None:
    losses: list[float] = []
    config = replace(QUICK, members=1, epochs=6)
    fit_op_model(real_runs(), config, lambda metrics, step: losses.append(metrics["op_loss"]))
    assert len(losses) == 6
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("field", "value"), [("members", 0), ("epochs", 0), ("batch_units", 0)])
def test_config_names_what_is_wrong(field: str, value: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{field} is {value}"):
        replace(QUICK, **{field: value})
