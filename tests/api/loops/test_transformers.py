"""The callback for the Hugging Face Trainer: training as without it, at a smaller peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from remora.api.loops import RemoraCallback
from remora.errors import InfeasibleError, InvalidInputError

OPTIONS: dict[str, Any] = {"hardware": "rtx3090", "agent": "greedy"}


class Tokens(Dataset[dict[str, torch.Tensor]]):
    """Random sentences that are the same at every call."""

    def __init__(self, count: int) -> None:
        self._tokens = torch.randint(0, 60, (count, 24), generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._tokens[index], "labels": self._tokens[index]}


def _model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=60, n_positions=24, n_embd=32, n_layer=4, n_head=2)
    return GPT2LMHeadModel(config)


def _trainer(
    folder: Path, callback: RemoraCallback | None, model: nn.Module | None = None, **arguments: Any
) -> Trainer:
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        **arguments,
    }
    return Trainer(
        _model() if model is None else model,
        TrainingArguments(str(folder), **settings),
        train_dataset=Tokens(16),
        eval_dataset=Tokens(4),
        callbacks=[callback] if callback else [],
    )


class Watch(TrainerCallback):
    """Notes whether the blocks run by a plan during training."""

    def __init__(self) -> None:
        self.planned: list[bool] = []

    def on_step_end(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self.planned.append(_is_planned(model))


def _is_planned(model: Any) -> bool:
    return any("forward" in vars(module) for module in model.transformer.h.modules())


def _losses(trainer: Trainer) -> list[float]:
    return [row[key] for row in trainer.state.log_history for key in row if key.endswith("loss")]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "steps",
            "save_steps": 2,
            "load_best_model_at_end": True,
        },
        {"optim": "sgd", "max_grad_norm": 0.1, "dataloader_num_workers": 1},
    ],
    ids=["plain", "accumulated", "bf16", "evaluated and saved", "sgd"],
)
def test_training_is_as_without_a_plan(tmp_path: Path, arguments: dict[str, Any]) -> None:
    plain = _trainer(tmp_path / "plain", None, **arguments)
    plain.train()
    callback = RemoraCallback("range:0.3", **OPTIONS)
    planned = _trainer(tmp_path / "planned", callback, **arguments)
    watch = Watch()
    planned.add_callback(watch)
    planned.train()
    assert watch.planned == [True] * 4
    assert _losses(planned) == _losses(plain)
    assert len(_losses(plain)) >= 5
    weights = plain.model.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in planned.model.state_dict().items())
    plan = callback.plan
    assert plan is not None
    assert plan.problem.optimizer.name == ("sgd" if "optim" in arguments else "adamw")
    dtypes = {tensor.dtype for tensor in plan.problem.graph.tensors}
    assert ("bfloat16" in dtypes) == ("bf16" in arguments)
    assert plan.estimate.peak_memory_bytes < plan.keep_all_timeline.max_peak_bytes
    assert not _is_planned(planned.model)


def test_a_finished_plan_is_used_again(tmp_path: Path) -> None:
    first = RemoraCallback("range:0.2", **OPTIONS)
    model = _trainer(tmp_path, first)
    model.train()
    second = RemoraCallback(plan=first.plan)
    again = _trainer(tmp_path, second, label_smoothing_factor=0.1)
    again.train()
    assert second.plan is first.plan
    plain = _trainer(tmp_path, None, label_smoothing_factor=0.1)
    plain.train()
    assert _losses(again) == _losses(plain)


def test_accumulated_gradients_have_room_in_the_budget(tmp_path: Path) -> None:
    budget = 2_000_000
    callback = RemoraCallback(budget, **OPTIONS)
    trainer = _trainer(tmp_path, callback, gradient_accumulation_steps=2, max_steps=1)
    trainer.train()
    gradients = sum(p.nbytes for p in trainer.model.parameters())
    assert callback.plan is not None
    assert callback.plan.budget_bytes == budget - gradients


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation_checkpointing": True}, "gradient_checkpointing of TrainingArguments is on"),
        ({"torch_compile_backend": "aot_eager"}, "torch_compile of TrainingArguments is on"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor of TrainingArguments is 0.1"),
    ],
)
def test_what_no_plan_can_live_with_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    trainer = _trainer(tmp_path, RemoraCallback("range:0.5", **OPTIONS), **arguments)
    with pytest.raises(InvalidInputError, match=message):
        trainer.train()
    assert not _is_planned(trainer.model)


def test_sharded_training_is_refused(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", fsdp=True)
    with pytest.raises(InvalidInputError, match="fsdp of TrainingArguments is on"):
        RemoraCallback("range:0.5").on_train_begin(arguments, None, None, model=_model())


def test_checkpointing_of_the_model_itself_is_refused(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, RemoraCallback("range:0.5", **OPTIONS))
    trainer.model.activation_checkpointing_enable()
    with pytest.raises(InvalidInputError, match="gradient_checkpointing"):
        trainer.train()


def test_a_budget_that_nothing_fits_ends_before_training(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, RemoraCallback(10_000, **OPTIONS))
    with pytest.raises(InfeasibleError):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not _is_planned(trainer.model)


class Interrupts(TrainerCallback):
    def on_step_end(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("no power")


def test_a_training_that_failed_is_restored_on_request(tmp_path: Path) -> None:
    callback = RemoraCallback("range:0.3", **OPTIONS)
    trainer = _trainer(tmp_path, callback)
    trainer.add_callback(Interrupts())
    with pytest.raises(RuntimeError, match="no power"):
        trainer.train()
    assert _is_planned(trainer.model)
    callback.remove()
    assert not _is_planned(trainer.model)
