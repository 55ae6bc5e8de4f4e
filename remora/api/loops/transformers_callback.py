"""Plan and run the training of a Hugging Face ``Trainer`` within a memory budget."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from remora.api.loops.example_batch import example_batch
from remora.api.loops.planned_training import PlannedTraining, TrainingStep, optimizer_name
from remora.errors import InvalidInputError, MissingExtraError
from remora.graph.batch import on_device

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError("transformers", "loops", "RemoraCallback") from error

if TYPE_CHECKING:
    from remora.api.plan import Plan
    from remora.graph.loss import ExampleInputs

__all__ = ["RemoraCallback"]


class RemoraCallback(TrainerCallback):  # type: ignore[misc]
    """Plans when training begins, applies the plan, and removes it when training ends.

    Use it as in::

        Trainer(model, args, train_dataset=data, callbacks=[RemoraCallback("8GiB")]).train()

    Losses and gradients are those of the training without it. Where gradients are accumulated, a
    budget in bytes keeps room for them.

    Args:
        memory: budget per device, as :func:`remora.optimize` takes it.
        plan: a finished plan instead, made for the same model and batch.
        example_inputs: keyword arguments of the model to plan for; None for the first samples of
            the training data.
        options: further arguments of :func:`remora.optimize`.

    Raises:
        InvalidInputError: there is neither a budget nor a plan, or there are both.
    """

    def __init__(
        self,
        memory: int | str | None = None,
        *,
        plan: Plan | None = None,
        example_inputs: ExampleInputs | None = None,
        **options: Any,
    ) -> None:
        self._training = PlannedTraining(memory, plan, options)
        self._example_inputs = example_inputs

    @property
    def plan(self) -> Plan | None:
        """The plan; None before training began."""
        return self._training.plan

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        model: nn.Module,
        optimizer: Any = None,
        train_dataloader: Iterable[Any] | None = None,
        **_: Any,
    ) -> None:
        """Make the plan and put it into effect.

        Raises:
            InvalidInputError: the arguments of the training contradict a plan.
        """
        if isinstance(model, DistributedDataParallel):
            model = model.module
        _check_arguments(args, model)
        model.train()

        def step() -> TrainingStep:
            _check_loss(args)
            inputs = self._example_inputs
            if inputs is None:
                inputs = _model_inputs(model, example_batch(train_dataloader or ()))
            return TrainingStep(
                example_inputs=on_device(inputs, args.device),
                optimizer=optimizer_name(optimizer),
                accumulates=args.gradient_accumulation_steps > 1,
            )

        self._training.begin(model, step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the model."""
        self.remove()

    def remove(self) -> None:
        """Restore the model, also after a training that failed; a second call does nothing."""
        self._training.end()


def _check_arguments(args: Any, model: nn.Module) -> None:
    """Refuse what a plan cannot live with.

    Raises:
        InvalidInputError: names the argument.
    """
    names = ("activation_checkpointing", "gradient_checkpointing")
    places = (args, *model.modules())
    recomputes = any(getattr(place, name, False) is True for place in places for name in names)
    refused = {
        "gradient_checkpointing": (recomputes, "the plan decides what is recomputed"),
        "torch_compile": (args.torch_compile, "what runs by a plan runs uncompiled"),
        "fsdp": (bool(args.fsdp), "a plan for one device needs whole weights; DDP works"),
        "deepspeed": (bool(args.deepspeed), "a plan for one device needs whole weights; DDP works"),
    }
    for name, (value, reason) in refused.items():
        if value:
            raise InvalidInputError(
                f"{name} of TrainingArguments is on; allowed with a Remora plan: off, because "
                f"{reason}"
            )
    if args.n_gpu > 1:
        raise InvalidInputError(
            f"the Trainer sees {args.n_gpu} GPUs in one process; allowed with a Remora plan: one "
            "GPU per process (start it by torchrun, or set CUDA_VISIBLE_DEVICES)"
        )


def _check_loss(args: Any) -> None:
    if args.label_smoothing_factor:
        raise InvalidInputError(
            f"label_smoothing_factor of TrainingArguments is {args.label_smoothing_factor}, so the "
            "loss is not the model's; allowed where RemoraCallback makes the plan: 0"
        )


def _model_inputs(model: nn.Module, batch: Any) -> dict[str, Any]:
    """What the Trainer calls the model with: the batch, and the number of labels if it wants it."""
    inputs = dict(batch)
    parameters = inspect.signature(model.forward).parameters.values()
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if getattr(model, "accepts_loss_kwargs", takes_more) and isinstance(
        inputs.get("labels"), Tensor
    ):
        inputs["num_items_in_batch"] = inputs["labels"].ne(-100).sum()
    return inputs
