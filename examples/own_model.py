"""Plan, run and verify a model of your own under a memory budget, in one Python call.

Run `python examples/own_model.py [FOLDER]`; files go to FOLDER (default `outputs/own_model`).
`remora optimize model=custom model.target=examples.own_model:build memory=60%` does the same
from the command line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import remora


class Block(nn.Module):
    """A residual block; each one becomes a unit that is kept or recomputed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, width] to [batch, width]."""
        return x + self.dropout(self.down(torch.tanh(self.up(self.norm(x)))))


class Classifier(nn.Module):
    """Blocks and a linear head."""

    def __init__(self, width: int = 128, depth: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, width] to [batch, classes]."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def cross_entropy(logits: Tensor) -> Tensor:
    """Loss against class 0, to have one."""
    return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def build() -> tuple[nn.Module, tuple[Tensor, ...], object]:
    """Model, example inputs and loss, as ``model.target`` wants them."""
    torch.manual_seed(0)
    return Classifier(), (torch.randn(4096, 128),), cross_entropy


def main(folder: Path) -> None:
    """Plan, verify, save, then train one step under the plan."""
    model, example_inputs, _ = build()
    plan = remora.optimize(model, example_inputs, memory="60%", loss=cross_entropy)
    print(f"budget {plan.budget_bytes} bytes, peak {plan.estimate.peak_memory_bytes} bytes")
    print(f"step {plan.estimate.step_time_s:.4f} s, no plan below {plan.lower_bound_s:.4f} s")
    print("verified:", plan.verify(model, example_inputs).passed)
    plan.save(folder)
    plan.report(folder / "report.html")

    optimizer = torch.optim.AdamW(model.parameters())
    handle = plan.apply(model)
    cross_entropy(model(*example_inputs)).backward()
    optimizer.step()
    handle.remove()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("outputs/own_model"))
