"""A Hugging Face Trainer with and without a memory budget: the same losses, a smaller peak.

Run ``python -m examples.transformers_trainer``; it needs ``pip install -e '.[loops]'``.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from remora.api.loops import RemoraCallback

LENGTH, BATCH, STEPS = 64, 8, 4


class Sentences(Dataset[dict[str, torch.Tensor]]):
    """Random tokens, the same in every run."""

    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(1)
        self._tokens = torch.randint(100, (count, LENGTH), generator=draw)

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._tokens[index], "labels": self._tokens[index]}


def train(folder: str, *callbacks: TrainerCallback) -> list[float]:
    """Train a small GPT-2, accumulating over two batches; returns the losses."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=100, n_positions=LENGTH, n_embd=64, n_layer=4, n_head=2)
    )
    arguments: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    trainer = Trainer(
        model,
        TrainingArguments(folder, **arguments),
        train_dataset=Sentences(4 * BATCH),
        callbacks=list(callbacks),
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def main() -> None:
    """Train twice and print losses and predicted peaks."""
    callback = RemoraCallback("range:0.2", time_limit_s=2)
    with tempfile.TemporaryDirectory() as folder:
        plain, planned = train(folder), train(folder, callback)
    for step, (a, b) in enumerate(zip(plain, planned, strict=True)):
        print(f"step {step}: loss {a:.6f} without, {b:.6f} with the plan")
    plan = callback.plan
    assert plan is not None
    before, after = plan.keep_all_timeline.max_peak_bytes, plan.estimate.peak_memory_bytes
    print(f"peak of a batch: {before} bytes without, {after} with it")


if __name__ == "__main__":
    main()
