"""A training loop of one's own, with and without a plan: the same losses, a smaller peak.

Run ``python -m examples.plain_loop``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import remora
from remora.executor.cpu_memory import cpu_peak_bytes

WIDTH, LAYERS, BATCH, STEPS = 64, 8, 2048, 4


def make_model() -> nn.Module:
    """Blocks with dropout, and a linear head."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * WIDTH, WIDTH)
        )
        for _ in range(LAYERS)
    ]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, 10))


def loss_of(logits: Tensor) -> Tensor:
    """Cross entropy against classes by turns."""
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 10)


def train(model: nn.Module, losses: list[float]) -> Callable[[], None]:
    """The loop, which knows nothing of plans."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def run() -> None:
        torch.manual_seed(1)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(BATCH, WIDTH)))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))

    return run


def main() -> None:
    """Train twice and print losses and measured peaks."""
    plain: list[float] = []
    plain_peak_bytes = cpu_peak_bytes(train(make_model(), plain))

    model = make_model()
    batch = (torch.randn(BATCH, WIDTH),)
    plan = remora.optimize(model, batch, "range:0.2", loss=loss_of, time_limit_s=2)
    planned: list[float] = []
    with plan.apply(model):
        planned_peak_bytes = cpu_peak_bytes(train(model, planned))

    for step, (a, b) in enumerate(zip(plain, planned, strict=True)):
        print(f"step {step}: loss {a:.6f} without, {b:.6f} with the plan")
    print(f"peak above the weights: {plain_peak_bytes} bytes without, {planned_peak_bytes} with it")


if __name__ == "__main__":
    main()
