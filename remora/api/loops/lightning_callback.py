"""Plan and run the training of a Lightning ``Trainer`` within a memory budget."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from remora.api.loops.example_batch import example_batch
from remora.api.loops.planned_training import PlannedTraining, TrainingStep, optimizer_name
from remora.errors import InvalidInputError, MissingExtraError

try:
    from lightning.pytorch import Callback
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
except ImportError as error:
    raise MissingExtraError("lightning", "loops", "RemoraLightningCallback") from error

if TYPE_CHECKING:
    from remora.api.plan import Plan

__all__ = ["RemoraLightningCallback"]

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")


class RemoraLightningCallback(Callback):
    """Plans when training begins, applies the plan, and removes it when training ends.

    Use it as in::

        Trainer(callbacks=[RemoraLightningCallback("8GiB")]).fit(module, loader)

    What is planned is ``training_step`` from its batch to its loss. Losses and gradients are those
    of the training without it. Where gradients are accumulated, a budget in bytes keeps room for
    them.

    Args:
        memory: budget per device, as :func:`remora.optimize` takes it.
        plan: a finished plan instead, of an earlier callback for the same module and batch.
        example_batch: a batch to plan for, on the device; None for the first samples of the
            training data.
        options: further arguments of :func:`remora.optimize`.

    Raises:
        InvalidInputError: there is neither a budget nor a plan, or there are both.
    """

    def __init__(
        self,
        memory: int | str | None = None,
        *,
        plan: Plan | None = None,
        example_batch: Any = None,
        **options: Any,
    ) -> None:
        self._training = PlannedTraining(memory, plan, options)
        self._example_batch = example_batch
        self._module: nn.Module | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan; None before training began."""
        return self._training.plan

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the plan and put it into effect.

        Raises:
            InvalidInputError: the training is of a kind that no plan can live with.
        """
        _check_training(trainer, pl_module)
        step_module = _StepModule(pl_module, trainer.precision_plugin)

        def step() -> TrainingStep:
            batch = self._example_batch
            if batch is None:
                batch = _batch_of(trainer, pl_module)
            indexed = is_param_in_hook_signature(pl_module.training_step, "batch_idx", min_args=2)
            return TrainingStep(
                example_inputs=(batch, 0) if indexed else (batch,),
                optimizer=optimizer_name(trainer.optimizers[0]),
                accumulates=trainer.accumulate_grad_batches > 1,
                loss=_loss_of,
            )

        with _silent(pl_module):
            self._training.begin(step_module, step)

        @functools.wraps(pl_module.training_step)
        def planned_step(*args: Any, **kwargs: Any) -> Any:
            return step_module(*args, **kwargs)

        pl_module.training_step = planned_step
        self._module = pl_module

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Restore the module."""
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the module."""
        self._end()

    def _end(self) -> None:
        module, self._module = self._module, None
        if module is not None:
            del module.training_step
        self._training.end()


class _StepModule(nn.Module):
    """The training step of a Lightning module, as the forward of a module."""

    def __init__(self, module: Any, precision: Any) -> None:
        super().__init__()
        self.module = module
        self._step = module.training_step
        self._precision = precision

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Take the batch and its number, return the loss, or a mapping with it."""
        with self._precision.train_step_context():
            return self._step(*args, **kwargs)


def _loss_of(output: Any) -> Tensor:
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
    return loss


def _batch_of(trainer: Any, module: Any) -> Any:
    """One batch, treated as the trainer would."""
    batch = trainer.precision_plugin.convert_input(example_batch(trainer.train_dataloader))
    batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _check_training(trainer: Any, module: Any) -> None:
    """Refuse what a plan cannot live with."""
    if not module.automatic_optimization:
        raise InvalidInputError(
            "automatic_optimization of the LightningModule is False, so its training_step holds "
            "more than a forward; allowed with a Remora plan: True"
        )
    strategy = type(trainer.strategy).__name__
    if strategy not in _STRATEGIES:
        raise InvalidInputError(
            f"strategy of the Lightning Trainer is {strategy}; allowed with a Remora plan: "
            f"{' and '.join(_STRATEGIES)}, which keep whole weights on every device"
        )
    if len(trainer.optimizers) != 1:
        raise InvalidInputError(
            f"the LightningModule has {len(trainer.optimizers)} optimizers; allowed with a Remora "
            "plan: one"
        )


@contextlib.contextmanager
def _silent(module: Any) -> Iterator[None]:
    """Let a module log nothing meanwhile: what is traced or measured is no training."""
    names = ("log", "log_dict")
    for name in names:
        vars(module)[name] = _log_nothing
    try:
        yield
    finally:
        for name in names:
            del vars(module)[name]


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand for ``LightningModule.log``."""
