"""A plan that is made when somebody's training begins and is in effect until it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remora.api.budget import BudgetKind, parse_budget
from remora.api.loops.randomness import randomness_kept
from remora.errors import InvalidInputError
from remora.graph.loss import ExampleInputs, LossFunction
from remora.schedule.schedule import StatePlan

if TYPE_CHECKING:
    import torch
    from torch import nn

    from remora.api.plan import Plan
    from remora.executor.memory.install import Handle

__all__ = ["PlannedTraining", "TrainingStep", "optimizer_name"]


@dataclass(frozen=True)
class TrainingStep:
    """One forward and backward of a training loop, to plan for.

    Attributes:
        example_inputs: one batch, on the device.
        optimizer: name as :func:`remora.optimize` knows it.
        accumulates: whether gradients of several batches are added up before a step.
        loss: of the model's output; None for ``output.loss``.
    """

    example_inputs: ExampleInputs
    optimizer: str
    accumulates: bool
    loss: LossFunction | None = None


class PlannedTraining:
    """What the callbacks share.

    Args:
        memory: budget as :func:`remora.optimize` takes it; None where there is a plan.
        plan: a finished plan; None to make one.
        options: further arguments of :func:`remora.optimize`.

    Attributes:
        plan: the plan; None before one was made.

    Raises:
        InvalidInputError: there is neither a budget nor a plan, or there are both.
    """

    def __init__(
        self, memory: int | str | None, plan: Plan | None, options: Mapping[str, Any]
    ) -> None:
        if (memory is None) == (plan is None):
            raise InvalidInputError(
                f"memory is {memory!r} and plan is {'not ' if plan else ''}None; allowed: either a "
                "budget or a finished plan"
            )
        if plan is not None and options:
            raise InvalidInputError(
                f"{', '.join(sorted(options))} came with a finished plan; allowed: only with memory"
            )
        if memory is not None:
            parse_budget(memory)
        self._memory = memory
        self._options = dict(options)
        self._handle: Handle | None = None
        self.plan = plan

    @property
    def finished(self) -> bool:
        """Whether there is a plan, so that no example batch is needed."""
        return self.plan is not None

    def begin(self, model: nn.Module, step: Callable[[], TrainingStep]) -> None:
        """Make a plan if there is none, and put it into effect.

        Random state is afterwards as before, so training goes as without a plan.

        Args:
            model: in the mode and on the device of training.
            step: what to plan for; called only if a plan has to be made.

        Raises:
            InfeasibleError: nothing fits the budget.
            InvalidInputError: the plan moves more than saved tensors, or is for several devices.
            TraceError: the model cannot be traced.
        """
        from remora.api.planning import optimize

        self.end()
        if self.plan is None:
            with randomness_kept():
                wanted = step()
                options = {"optimizer": wanted.optimizer, "loss": wanted.loss, **self._options}
                memory = self._budget(model, wanted.accumulates)
                self.plan = optimize(model, wanted.example_inputs, memory, **options)
        if self.plan.schedule.state != StatePlan():
            raise InvalidInputError(
                "the plan says where optimizer state or weights live, and the trainer has made its "
                "optimizer already; allowed: a plan made with move_state=False"
            )
        self._handle = self.plan.apply(model)

    def end(self) -> None:
        """Restore the model; does nothing if no plan is in effect."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()

    def _budget(self, model: nn.Module, accumulates: bool) -> int | str | None:
        """Keep room for gradients of earlier batches, which lie beside the whole step."""
        assert self._memory is not None
        budget = parse_budget(self._memory)
        if not accumulates or budget.kind is not BudgetKind.BYTES:
            return self._memory
        gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        return max(1, int(budget.value) - gradients)


def optimizer_name(optimizer: torch.optim.Optimizer) -> str:
    """Name an optimizer as :func:`remora.optimize` counts it; unknown ones count as AdamW."""
    kind = type(getattr(optimizer, "optimizer", optimizer)).__name__
    if kind == "SGD":
        moves = any(group.get("momentum") for group in optimizer.param_groups)
        return "sgd_momentum" if moves else "sgd"
    return "adamw"
