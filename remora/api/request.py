"""What to plan for, apart from the model, and what is refused before it is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from remora.api.budget import parse_budget
from remora.api.cost_model_choice import AUTO, GNN, PROFILED, ROOFLINE, check_cost_model
from remora.api.hardware import find_hardware, is_local
from remora.api.hardware_state import StateLike, given_state
from remora.api.micro_batches import check_ranks
from remora.api.passes import check_mode_values
from remora.api.problem import find_optimizer
from remora.errors import InvalidInputError
from remora.graph.precision.precision import allowed_precisions, check_precisions
from remora.hardware.hardware import Hardware
from remora.report.content import CandidateRow
from remora.schedule.inference import Mode

__all__ = ["Progress", "Request", "check_request"]


@dataclass(frozen=True)
class Progress:
    """Called while a plan is made.

    Attributes:
        stage: with a few words when the next piece of work begins.
        candidate: with every row of the table of candidates.
    """

    stage: Callable[[str], None] = field(default=lambda text: None)
    candidate: Callable[[CandidateRow], None] = field(default=lambda row: None)


@dataclass(frozen=True)
class Request:
    """What to plan for, apart from the model; see :func:`remora.optimize` for the fields.

    ``allow_lossy`` lets a schedule that is given compress saved tensors.
    """

    memory: int | str | None = None
    optimizer: str | None = "adamw"
    hardware: str | Mapping[str, Any] | Hardware = "local"
    host_pool: str | None = None
    world_size: int = 1
    micro_batches: int | None = None
    move_state: bool | None = None
    tensor_degree: int | None = None
    global_batch: bool | None = None
    agent: str = "best"
    agent_settings: Mapping[str, Any] = field(default_factory=dict)
    time_limit_s: float = 10.0
    cost_model: str = "auto"
    cost_model_weights: str | None = None
    allow_lossy: bool = False
    state: StateLike = None
    mode: str = "train"
    prompt_tokens: int | None = None
    generated_tokens: int = 0
    precisions: tuple[str, ...] = ()

    @property
    def moves_state(self) -> bool:
        """Whether weights and the like may leave the device; in inference there is little else."""
        if self.move_state is None:
            return self.world_size > 1 or self.mode == Mode.INFERENCE
        return self.move_state


def check_request(request: Request) -> None:
    """Refuse what can be refused before the model is traced."""
    from remora.agents.evaluation import check_one_device
    from remora.agents.registry import (
        create,
        plans_mode,
        plans_one_device,
        scheduler_names,
    )

    parse_budget(request.memory)
    given_state(request.state)
    find_optimizer(request.optimizer)
    check_ranks(request.world_size, request.micro_batches, request.tensor_degree)
    check_cost_model(request.cost_model, request.cost_model_weights, is_local(request.hardware))
    mode = check_mode_values(request.mode, request.prompt_tokens, request.generated_tokens)
    if mode is Mode.INFERENCE and (request.tensor_degree or 1) > 1:
        raise InvalidInputError(
            f"tensor_degree is {request.tensor_degree} with mode='inference'; allowed: 1"
        )
    if mode is Mode.INFERENCE and request.cost_model == GNN:
        raise InvalidInputError(
            f"cost_model is 'gnn' with mode='inference'; allowed: {AUTO!r}, {PROFILED!r}, "
            f"{ROOFLINE!r}, since it has learned steps of training"
        )
    if mode is Mode.INFERENCE and request.global_batch:
        raise InvalidInputError(
            "global_batch is true with mode='inference'; allowed: false, since replicas of a "
            "model that serves share nothing"
        )
    if request.precisions:
        hardware = find_hardware(request.hardware, request.host_pool)
        allowed = allowed_precisions(hardware.flops_per_s, mode is Mode.INFERENCE)
        check_precisions(request.precisions, allowed, f"on {hardware.name}")
    create(request.agent, **request.agent_settings)
    if not plans_mode(request.agent, mode):
        raise InvalidInputError(
            f"agent is {request.agent!r} and mode is {mode.value!r}, which it does not plan; "
            f"allowed: {', '.join(name for name in scheduler_names() if plans_mode(name, mode))}"
        )
    if plans_one_device(request.agent):
        check_one_device(request.agent, request.world_size)
    if isinstance(request.hardware, str) and not is_local(request.hardware):
        find_hardware(request.hardware, request.host_pool)
