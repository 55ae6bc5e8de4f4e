"""A stage as a module: plays its calls of the tape under its part of the memory plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from remora.executor.memory.ambient import under
from remora.executor.memory.forward import ForwardPass
from remora.executor.memory.nesting import output_leaves
from remora.executor.memory.tape import Call, arguments
from remora.executor.pipeline.parts import StagePart
from remora.executor.pipeline.seeds import UnitSeeds

__all__ = ["BatchLeaves", "StageModule"]

BatchLeaves = Callable[[int], Sequence[Any]]
"""Leaves of the inputs of a micro-batch, by its number."""


class StageModule(nn.Module):
    """Plays the calls of one stage.

    Its submodules and parameters are those of the model that its calls use, the very same objects.

    Args:
        model: the whole model; only what the stage needs of it is held.
        part: the stage.
        new_pass: begins a forward under the memory plan; None where everything is kept.
        batch: gives the inputs.
        seeds: of the random operators.
        on_border: called with the micro-batch and what the first unit hands to the others of the
            stage, where somebody wants to know it.
        on_unit: called with every unit that is about to run, where somebody wants to know it.

    Attributes:
        unit_modules: the modules that its calls call.
    """

    def __init__(
        self,
        model: nn.Module,
        part: StagePart,
        new_pass: Callable[[], ForwardPass] | None,
        batch: BatchLeaves,
        seeds: UnitSeeds,
        on_border: Callable[[int, list[Tensor]], None] | None = None,
        on_unit: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        calls = part.all_calls
        modules = {id(c.function): c.function for c in calls if isinstance(c.function, nn.Module)}
        self.unit_modules = list(modules.values())
        self.steps = nn.ModuleList(self.unit_modules)
        self._part = part
        self._new_pass = new_pass
        self._batch = batch
        self._seeds = seeds
        self._on_border = on_border
        self._on_unit = on_unit
        self._border = _border(part)
        self._owners: dict[int, tuple[nn.Module, str]] = {}
        self._constants: dict[int, Tensor] = {}
        self._inputs: dict[int, int] = {}
        self._direct = nn.Module()
        for number, origin in part.origins.items():
            if origin.parameter is not None:
                self._adopt_parameter(number, model.get_parameter(origin.parameter))
            elif origin.buffer is not None:
                self._adopt_buffer(number, model, origin.buffer)
            elif origin.batch is not None:
                self._inputs[number] = origin.batch
            elif origin.constant is not None:
                self._constants[number] = origin.constant
        self._expiring = _expiring(calls, frozenset(part.exported))

    @property
    def batch_positions(self) -> frozenset[int]:
        """Positions of the leaves of the batch that the stage reads."""
        return frozenset(self._inputs.values())

    def forward(self, *received: Tensor, micro_batch: int) -> tuple[Tensor, ...]:
        """Play the stage for one micro-batch.

        Args:
            received: values of earlier stages, in the order of ``part.received``.
            micro_batch: its number.

        Returns:
            values for later stages, in the order of ``part.exported``.
        """
        part = self._part
        values = self._first_values(micro_batch)
        values.update(zip(part.received, received, strict=True))
        for index, call in enumerate(part.prologue):
            self._play(index, call, values, _call)
        if self._new_pass is None:
            return self._play_own(values, micro_batch, None)
        current = self._new_pass()
        with current.hooks():
            outputs = self._play_own(values, micro_batch, current)
        current.finish(outputs)
        return outputs

    def _play_own(
        self, values: dict[int, Tensor], micro_batch: int, current: ForwardPass | None
    ) -> tuple[Tensor, ...]:
        unit = self._part.span[0] - 1
        offset = len(self._part.prologue)
        for index, call in enumerate(self._part.calls):
            while unit < call.unit:
                unit += 1
                self._begin_unit(unit, micro_batch, current, call, values)
            recording = current is not None and current.recording
            run = current.record if current is not None and recording else _call
            self._play(offset + index, call, values, run)
        return tuple(values[number] for number in self._part.exported)

    def _begin_unit(
        self,
        unit: int,
        micro_batch: int,
        current: ForwardPass | None,
        call: Call,
        values: Mapping[int, Tensor],
    ) -> None:
        if self._on_unit is not None:
            self._on_unit(unit)
        if current is not None:
            current.enter_unit(unit, [values[number] for number in call.reads])
        if self._on_border is not None and unit == self._part.span[0] + 1:
            self._on_border(micro_batch, [values[number] for number in self._border])
        seed = self._seeds.of(unit, micro_batch)
        if seed is None:
            return
        self._seeds.plant(seed)
        if current is not None:
            current.note_seed(self._seeds.plant, seed)

    def _play(
        self,
        index: int,
        call: Call,
        values: dict[int, Tensor],
        run: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any],
    ) -> None:
        args, kwargs = arguments(call, values)
        with under(call.ambient):
            output = run(call.function, tuple(args), kwargs)
        del args, kwargs
        for number, leaf in zip(call.outputs, output_leaves(output), strict=True):
            if number is not None:
                values[number] = leaf
        for number in self._expiring.get(index, ()):
            values.pop(number, None)

    def _first_values(self, micro_batch: int) -> dict[int, Tensor]:
        leaves = self._batch(micro_batch)
        values = {number: leaves[position] for number, position in self._inputs.items()}
        values.update(self._constants)
        for number, (owner, name) in self._owners.items():
            values[number] = getattr(owner, name)
        return values

    def _adopt_parameter(self, number: int, parameter: nn.Parameter) -> None:
        """Hold a weight that a call reads directly, in a place where sharding can exchange it."""
        for module in self.steps.modules():
            for name, own in module._parameters.items():
                if own is parameter:
                    self._owners[number] = (module, name)
                    return
        self._direct.register_parameter(f"value_{number}", parameter)
        self._owners[number] = (self._direct, f"value_{number}")

    def _adopt_buffer(self, number: int, model: nn.Module, path: str) -> None:
        owner, _, name = path.rpartition(".")
        buffer = model.get_buffer(path)
        for module in self.steps.modules():
            for own_name, own in module._buffers.items():
                if own is buffer:
                    self._owners[number] = (module, own_name)
                    return
        persistent = name not in model.get_submodule(owner)._non_persistent_buffers_set
        self._direct.register_buffer(f"value_{number}", buffer, persistent=persistent)
        self._owners[number] = (self._direct, f"value_{number}")


def _border(part: StagePart) -> tuple[int, ...]:
    """Values that the first unit of a stage makes and others of the stage read, by number."""
    first = part.span[0]
    made = {n for call in part.calls if call.unit == first for n in call.outputs if n is not None}
    read = {n for call in part.calls if call.unit > first for n in call.reads}
    return tuple(sorted(made & read))


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _expiring(calls: Sequence[Call], exported: frozenset[int]) -> dict[int, tuple[int, ...]]:
    """Values by the call after which nobody reads them."""
    last: dict[int, int] = {}
    for index, call in enumerate(calls):
        last.update(dict.fromkeys((n for n in call.outputs if n is not None), index))
        last.update(dict.fromkeys(call.reads, index))
    found: dict[int, tuple[int, ...]] = {}
    for number, index in last.items():
        if number not in exported:
            found[index] = (*found.get(index, ()), number)
    return found
