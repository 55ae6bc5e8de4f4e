"""A Lightning Trainer with and without a memory budget: the same losses, a smaller peak.

Run ``python -m examples.lightning_loop``; it needs ``pip install -e '.[loops]'``.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from examples.plain_loop import BATCH, STEPS, WIDTH, make_model
from remora.api.loops import RemoraLightningCallback


class Classifier(LightningModule):
    """The model of the plain loop, and a note of its losses."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_model()
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Take inputs [BATCH, WIDTH] and classes [BATCH], return the loss."""
        inputs, classes = batch
        return nn.functional.cross_entropy(self.model(inputs), classes)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss."""
        self.losses.append(float(outputs["loss"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(*callbacks: Callback) -> list[float]:
    """Train one epoch; returns the losses."""
    module = Classifier()
    inputs = torch.randn(STEPS * BATCH, WIDTH, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(inputs, torch.arange(len(inputs)) % 10)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=BATCH, shuffle=True))
    return module.losses


def main() -> None:
    """Train twice and print losses and predicted peaks."""
    callback = RemoraLightningCallback("range:0.2", time_limit_s=2)
    for step, (a, b) in enumerate(zip(train(), train(callback), strict=True)):
        print(f"step {step}: loss {a:.6f} without, {b:.6f} with the plan")
    plan = callback.plan
    assert plan is not None
    before, after = plan.keep_all_timeline.max_peak_bytes, plan.estimate.peak_memory_bytes
    print(f"peak: {before} bytes without, {after} with it")


if __name__ == "__main__":
    main()
