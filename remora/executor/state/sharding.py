"""Weights, gradients and optimizer state over data-parallel replicas: the stages of ZeRO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from remora.errors import InvalidInputError
from remora.executor.memory.mover import mover_for
from remora.executor.state.eight_bit import eight_bit_optimizer
from remora.executor.state.host_optimizer import OptimizerFactory
from remora.executor.state.optimizers import arguments_of, placed_optimizer
from remora.schedule.schedule import Placement, StatePlan

__all__ = ["Replicas", "check_runs_on_replicas", "whole_tensor"]


class Replicas:
    """The stages of one rank, whose weights other replicas have too.

    ZeRO 0 and 1 keep everything whole and average the gradients once a step; ZeRO 1 lets every
    replica step a share of the weights. ZeRO 2 and 3 keep shards: the weights of a unit are
    gathered for its use, and its gradients are averaged into shards by its backward. A stage has
    to be called as a module for that, and its backward to be announced to :meth:`begin_backward`.

    Args:
        stages: of this rank; with ZeRO 2 and 3 the weights in their modules are replaced.
        units: by stage, the modules whose weights are gathered together.  # [stages][units]
        direct: weights that a stage reads without calling the module that has them.
        plan: of the state; nothing but the optimizer is on the host.
        group: the replicas of this rank.
        device: where the stages are.

    Attributes:
        sharded: whether weights are sharded between their uses.

    Raises:
        InvalidInputError: the plan cannot be run on replicas.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        units: Sequence[Sequence[nn.Module]],
        direct: Collection[nn.Parameter],
        plan: StatePlan,
        group: dist.ProcessGroup,
        device: torch.device,
    ) -> None:
        check_runs_on_replicas(plan)
        self.sharded = plan.zero_stage >= 2
        self._stages = stages
        self._plan = plan
        self._group = group
        self._device = device
        self._places = _places(stages)
        if self.sharded:
            mesh = DeviceMesh.from_group(group, device.type)
            for stage, modules in zip(stages, units, strict=True):
                _shard(stage, modules, direct, mesh, gathered_often=plan.zero_stage == 3)

    @property
    def optimizer_on_host(self) -> bool:
        """Whether the optimizer keeps its state on the host."""
        return self._plan.optimizer is Placement.HOST

    def renewed(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Look up what has taken the place of weights of the stages.

        Args:
            parameters: as they were before, by name.
        """
        return {name: self._present(parameter) for name, parameter in parameters.items()}

    def begin_backward(self, stage: nn.Module, last: bool) -> None:
        """Note that a backward of a stage begins.

        Args:
            stage: one of the stages.
            last: no later micro-batch adds to its gradients.
        """
        if not isinstance(stage, FSDPModule):
            return
        stage.set_is_last_backward(last)
        stage.set_requires_gradient_sync(True)
        # ZeRO 2 gathers once a step.
        stage.set_reshard_after_backward(last or self._plan.zero_stage == 3)

    def end_backward(self) -> None:
        """Average the gradients of a step, as far as no backward has done it."""
        count = dist.get_world_size(self._group)
        if count == 1:
            return
        for parameter in self._weights():
            # Weights of several units stay whole beside the shards of the others.
            if parameter.grad is not None and not isinstance(parameter, DTensor):
                dist.all_reduce(parameter.grad, group=self._group)
                parameter.grad.div_(count)

    def make_optimizer(self, factory: OptimizerFactory) -> Optimizer | None:
        """Make the optimizer of this rank; None if it trains nothing.

        Args:
            factory: makes one of PyTorch's for a list of weights.

        Raises:
            InvalidInputError: there is no such optimizer in eight bits.
            MissingExtraError: torchao is needed and not installed.
        """
        weights = self._weights()
        if not weights:
            return None
        if self._plan.zero_stage == 1:
            return self._sharing_optimizer(weights, factory)
        return placed_optimizer(weights, self._plan.optimizer, factory, mover_for(self._device))

    def _sharing_optimizer(
        self, weights: Sequence[nn.Parameter], factory: OptimizerFactory
    ) -> Optimizer:
        """Make an optimizer that steps a share and hands the others the weights."""
        # It warns of what it imports itself.
        from torch.distributed.optim import ZeroRedundancyOptimizer

        plain = factory(weights)
        in_eight_bits = self._plan.optimizer is Placement.EIGHT_BIT
        made = eight_bit_optimizer(plain) if in_eight_bits else plain
        return ZeroRedundancyOptimizer(
            [dict(options) for options in made.param_groups],
            optimizer_class=type(made),
            process_group=self._group,
            **arguments_of(made),
        )

    def _weights(self) -> list[nn.Parameter]:
        """Trained weights of all stages, each once."""
        found = {p: None for stage in self._stages for p in stage.parameters() if p.requires_grad}
        return list(found)

    def _present(self, parameter: nn.Parameter) -> nn.Parameter:
        module, name = self._places[parameter]
        present = getattr(module, name)
        assert isinstance(present, nn.Parameter)
        return present


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gather a weight or gradient; all replicas have to call it alike."""
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole


def check_runs_on_replicas(plan: StatePlan) -> None:
    """Refuse a state that replicas, or ranks of a pipeline, cannot have.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    if plan.moves_with_units:
        raise InvalidInputError(
            f"state.weights is {plan.weights.value!r} and state.gradients is "
            f"{plan.gradients.value!r}; allowed on replicas: 'device' for both"
        )
    if plan.zero_stage == 1 and plan.optimizer is Placement.HOST:
        raise InvalidInputError(
            "state.optimizer is 'host' with state.zero_stage=1; allowed where a schedule is run: "
            "'device', '8bit'"
        )


def _places(stages: Sequence[nn.Module]) -> dict[nn.Parameter, tuple[nn.Module, str]]:
    """Where each weight of the stages is found."""
    return {
        parameter: (module, name)
        for stage in stages
        for module in stage.modules()
        for name, parameter in module.named_parameters(recurse=False)
    }


def _shard(
    stage: nn.Module,
    units: Sequence[nn.Module],
    direct: Collection[nn.Parameter],
    mesh: DeviceMesh,
    gathered_often: bool,
) -> None:
    """Shard a stage: every unit by itself, and what is no single unit's with the whole stage."""
    distinct = list({id(unit): unit for unit in units}.values())
    inner_first = sorted(distinct, key=lambda unit: sum(1 for _ in unit.modules()))
    uses = Counter(p for unit in _outermost(distinct) for p in set(unit.parameters()))
    left = {p for p, count in uses.items() if count > 1} | set(direct)
    for unit in inner_first:
        if unit is not stage and any(p not in left for p in unit.parameters()):
            fully_shard(unit, mesh=mesh, reshard_after_forward=gathered_often, ignored_params=left)
    fully_shard(stage, mesh=mesh, reshard_after_forward=gathered_often)


def _outermost(units: Sequence[nn.Module]) -> list[nn.Module]:
    """Modules that no other of them holds."""
    inside = {id(m) for unit in units for m in unit.modules() if m is not unit}
    return [unit for unit in units if id(unit) not in inside]
