"""The callback for the Lightning Trainer: training as without it, at a smaller peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from remora.api.loops import RemoraLightningCallback
from remora.errors import InvalidInputError
from tests.api.small_models import WIDTH, Stack

OPTIONS: dict[str, Any] = {"hardware": "rtx3090", "agent": "greedy"}

# Lightning's own: about workers, about intervals of logging, and about PyTorch's trees.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


class Classifier(LightningModule):
    def __init__(self, manual: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Stack(4)
        self.automatic_optimization = not manual
        self.losses: list[float] = []
        self.planned: list[bool] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return {"loss": loss}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.planned.append(any("forward" in vars(module) for module in self.net.modules()))

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("validation", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Interrupts(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        raise RuntimeError("no power")


def _loader(shuffle: bool) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(2048, WIDTH, generator=draw)
    return DataLoader(TensorDataset(x, torch.arange(2048) % 8), batch_size=512, shuffle=shuffle)


def _fit(folder: Path, callbacks: list[Callback], model: Classifier, **settings: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=folder,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        logger=False,
        **settings,
    )
    torch.manual_seed(7)
    trainer.fit(model, _loader(shuffle=True), _loader(shuffle=False))
    return trainer


@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed", "gradient_clip_val": 0.1}],
    ids=["plain", "accumulated", "bf16"],
)
def test_training_is_as_without_a_plan(tmp_path: Path, settings: dict[str, Any]) -> None:
    plain, planned = Classifier(), Classifier()
    _fit(tmp_path, [], plain, **settings)
    callback = RemoraLightningCallback("range:0.3", **OPTIONS)
    checkpoint = ModelCheckpoint(tmp_path / "saved")
    trainer = _fit(tmp_path, [callback, checkpoint], planned, **settings)
    assert planned.losses == plain.losses
    assert len(plain.losses) == 8
    assert planned.planned == [True] * 8
    weights = plain.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in planned.state_dict().items())
    saved = torch.load(checkpoint.best_model_path, weights_only=False)["state_dict"]
    assert saved.keys() == weights.keys()
    assert "loss" in trainer.callback_metrics
    plan = callback.plan
    assert plan is not None
    assert plan.problem.optimizer.name == "sgd_momentum"
    dtypes = {tensor.dtype for tensor in plan.problem.graph.tensors}
    assert ("bfloat16" in dtypes) == (settings.get("precision") == "bf16-mixed")
    assert plan.estimate.peak_memory_bytes < plan.keep_all_timeline.max_peak_bytes
    assert "training_step" not in vars(planned)
    assert all("forward" not in vars(module) for module in planned.modules())


def test_a_finished_plan_is_used_again(tmp_path: Path) -> None:
    first = RemoraLightningCallback("range:0.2", **OPTIONS)
    _fit(tmp_path, [first], Classifier())
    model = Classifier()
    second = RemoraLightningCallback(plan=first.plan)
    _fit(tmp_path, [second], model)
    assert model.planned == [True] * 8


def test_a_training_that_fails_leaves_the_module_plain(tmp_path: Path) -> None:
    model = Classifier()
    with pytest.raises(RuntimeError, match="no power"):
        _fit(tmp_path, [RemoraLightningCallback("range:0.3", **OPTIONS), Interrupts()], model)
    assert "training_step" not in vars(model)
    assert all("forward" not in vars(module) for module in model.modules())


def test_what_no_plan_can_live_with_is_refused(tmp_path: Path) -> None:
    callback = RemoraLightningCallback("range:0.3", **OPTIONS)
    with pytest.raises(InvalidInputError, match=r"automatic_optimization .* is False"):
        _fit(tmp_path, [callback], Classifier(manual=True))
