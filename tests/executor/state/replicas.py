"""One stage on two replicas, and the single process that it has to equal."""

from __future__ import annotations

import copy
import datetime
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from remora.executor.state.sharding import Replicas, whole_tensor
from remora.schedule.schedule import StatePlan
from tests.executor.state.plans import OPTIMIZERS
from tests.problems import Block

REPLICAS, MICRO_BATCHES, STEPS, WIDTH = 2, 2, 3, 16


class Model(nn.Module):
    """A tied pair, a block called twice, a frozen one, a weight read without its module."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, 24) for _ in range(3))
        self.blocks[2].requires_grad_(False)
        self.scale = nn.Linear(WIDTH, WIDTH, bias=False)
        self.shift = nn.Parameter(torch.linspace(-1, 1, WIDTH))
        self.head = nn.Linear(WIDTH, 11)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        # tokens [batch, length] -> scalar
        x = self.embed(tokens)
        for block in (self.blocks[0], self.blocks[1], self.blocks[0], self.blocks[2]):
            x = block(x)
        x = F.linear(x, self.scale.weight) + self.shift
        return F.cross_entropy(self.head(x).flatten(0, 1), tokens.flatten())

    def units(self) -> list[nn.Module]:
        return [self.embed, *self.blocks, self.scale, self.head]


@dataclass(frozen=True)
class Case:
    """What is compared."""

    plan: StatePlan
    optimizer: str


@dataclass
class Result:
    """Gradients of the first step and weights after the last, by name."""

    gradients: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


def make_model() -> Model:
    torch.manual_seed(5)
    return Model()


def tokens() -> Tensor:
    draw = torch.Generator().manual_seed(6)
    # [replicas, micro_batches, batch, length]
    return torch.randint(0, 11, (REPLICAS, MICRO_BATCHES, 2, 5), generator=draw)


def single_process(optimizer_name: str) -> Result:
    model, result = make_model(), Result()
    optimizer = OPTIMIZERS[optimizer_name]([p for p in model.parameters() if p.requires_grad])
    for step in range(STEPS):
        losses = [model(batch) for batch in tokens().flatten(0, 1)]
        torch.stack(losses).mean().backward()
        if step == 0:
            result.gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
            result.gradients = copy.deepcopy(result.gradients)
        optimizer.step()
        optimizer.zero_grad()
    result.weights = {name: p.detach() for name, p in model.named_parameters()}
    return result


def on_replicas(rank: int, cases: dict[str, Case], folder: str) -> None:
    """Run all cases on one rank and save what came out on rank 0."""
    torch.set_num_threads(1)
    # What torchao compiles takes seconds.
    torch.compiler.set_stance("force_eager")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=REPLICAS,
        timeout=datetime.timedelta(seconds=60),
    )
    results = {name: _run(case, rank) for name, case in cases.items()}
    if rank == 0:
        torch.save({name: (r.gradients, r.weights) for name, r in results.items()}, f"{folder}/out")
    # A rank that leaves while the other still writes has been seen to abort on its way out.
    dist.barrier()
    dist.destroy_process_group()


def _run(case: Case, rank: int) -> Result:
    model, result = make_model(), Result()
    named = dict(model.named_parameters())
    group = dist.group.WORLD
    assert group is not None
    direct = [model.scale.weight]
    device = torch.device("cpu")
    replicas = Replicas([model], [model.units()], direct, case.plan, group, device)
    optimizer = replicas.make_optimizer(OPTIMIZERS[case.optimizer])
    assert optimizer is not None
    for step in range(STEPS):
        # All forwards before all backwards, as a pipeline may do.
        losses = [model(batch) for batch in tokens()[rank]]
        for number, loss in enumerate(losses):
            replicas.begin_backward(model, number == MICRO_BATCHES - 1)
            (loss / MICRO_BATCHES).backward()
        replicas.end_backward()
        if step == 0:
            result.gradients = {
                name: whole_tensor(p.grad).clone()
                for name, p in replicas.renewed(named).items()
                if p.grad is not None
            }
        optimizer.step()
        optimizer.zero_grad()
    result.weights = {
        name: whole_tensor(p).detach().clone() for name, p in replicas.renewed(named).items()
    }
    return result
