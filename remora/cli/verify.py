"""``remora verify``: run a saved schedule here and hold it against the plain model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from remora.api.cost_model_choice import cost_model_of
from remora.api.model_source import ModelSource
from remora.api.passes import pass_example
from remora.api.placement import build_to_trace
from remora.api.plan import Plan
from remora.api.plan_files import (
    ESTIMATE_NAME,
    SCHEDULE_NAME,
    SavedEstimate,
    read_estimate,
    read_schedule,
)
from remora.api.planning import Request, check_request, state_variants
from remora.api.variants import traced_variants
from remora.api.verify_here import started_ranks
from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import local_device, make_request, model_source, optimizer_name, units_of
from remora.cli.verdict import print_verdict, raise_if_failed, run_verification, write_timeline
from remora.errors import FileFormatError, InvalidInputError
from remora.hardware.local import local_device_type
from remora.schedule.inference import Mode
from remora.schedule.schedule import Schedule
from remora.simulator.bounds import lower_bound_s

__all__ = ["run"]


def run(config: DictConfig) -> None:
    """Check the files, run the schedule, print and write the verdict.

    Raises:
        FileFormatError: the schedule is of another model, a newer version, or cut short; then
            nothing is run.
        InvalidInputError: the ranks do not fit the schedule.
        VerificationError: the run was not what it should be.
        ModelRunError: the model or the run died.
    """
    console, folder = output(), Path(config.out)
    path = Path(config.schedule)
    path = path / SCHEDULE_NAME if path.is_dir() else path
    saved = _saved(path.parent / ESTIMATE_NAME)
    schedule = read_schedule(path)
    source = _source(config, saved)
    with progress_shown() as progress:
        progress.stage(f"tracing {source.name}")
        plan = _plan(config, schedule, saved, source)
        progress.stage("running the schedule and the plain model")
        verification, written = run_verification(plan, source, folder, config.time_limit_s)
    plan = replace(plan, verification=verification)
    print_verdict(console, plan.content(), verification)
    files = [written]
    if verification.timeline is not None:
        files.append(write_timeline(plan, folder))
    files.append(plan.report(folder / "report.html"))
    print_line(console)
    print_files(console, files)
    raise_if_failed(verification)


def _saved(path: Path) -> SavedEstimate | None:
    return read_estimate(path) if path.exists() else None


def _source(config: DictConfig, saved: SavedEstimate | None) -> ModelSource:
    if config.model is not None:
        return model_source(config.model)
    if saved is None or saved.model is None:
        lacking = "there is none" if saved is None else "it names none, as after a call in Python"
        raise InvalidInputError(
            f"model is missing; allowed: one that {ESTIMATE_NAME} beside the schedule names, and "
            f"{lacking}; give model="
        )
    return saved.model.source()


def _plan(
    config: DictConfig, schedule: Schedule, saved: SavedEstimate | None, source: ModelSource
) -> Plan:
    """The saved plan as far as it was made for this machine, else predicted anew."""
    request = make_request(config)
    if local_device(request) is None:
        raise InvalidInputError(
            f"hardware is {config.hardware.name!r}, allowed: local, since the schedule runs here"
        )
    if config.memory is None and saved is not None:
        request = replace(request, memory=saved.budget_bytes)
    if config.optimizer is None:
        name = saved.optimizer if saved is not None else "adamw"
        request = replace(request, optimizer=optimizer_name(name))
    request = _with_tokens(_with_ranks(request, config, schedule), config, saved)
    check_request(request)
    units = units_of(config) or (saved.units if saved is not None else None)
    example = build_to_trace(source, local_device_type())
    example = pass_example(example) if request.mode == Mode.INFERENCE else example
    alone = replace(request, tensor_degree=request.tensor_degree or 1, global_batch=False)
    precisions = schedule.precision.units
    traced = traced_variants(example, alone, None, units, source.name, precisions=precisions)[:1]
    graph = traced[0].graphs[1]
    if graph.content_hash != schedule.graph_hash:
        raise FileFormatError(
            f"{config.schedule} was made for another model or batch: its graph is "
            f"{schedule.graph_hash}, that of {source.name} is {graph.content_hash}"
        )
    problem = replace(state_variants(traced, request), state_on_device=False)
    cost_model = cost_model_of(problem.cost.source, request.cost_model_weights)
    predicted = cost_model.estimate(problem, schedule)
    if saved is not None and saved.hardware == problem.hardware.name:
        predicted = saved.estimate
    return Plan(
        problem=problem,
        schedule=schedule,
        estimate=predicted,
        lower_bound_s=lower_bound_s(problem),
        candidates=(),
        agent=saved.agent if saved is not None else "file",
        units=units,
        loss=example.loss,
        source=source,
    )


def _with_tokens(request: Request, config: DictConfig, saved: SavedEstimate | None) -> Request:
    """Add the mode and the tokens that the schedule was planned for, unless others are given."""
    spec = None if saved is None else saved.inference
    if spec is None or config.mode not in (None, Mode.INFERENCE.value):
        return request
    prompt, generated = config.prompt_tokens, config.generated_tokens
    return replace(
        request,
        mode=Mode.INFERENCE,
        prompt_tokens=spec.prompt_tokens if prompt is None else prompt,
        generated_tokens=spec.generated_tokens if generated is None else generated,
    )


def _with_ranks(request: Request, config: DictConfig, schedule: Schedule) -> Request:
    """Add the ranks of the command, of torchrun, or those that the schedule needs."""
    ranks = schedule.num_devices
    world_size = config.world_size or started_ranks() or ranks
    if world_size % ranks:
        raise InvalidInputError(
            f"world_size is {world_size}; allowed for a schedule of {ranks} ranks: multiples of "
            f"{ranks}"
        )
    count = schedule.pipeline.micro_batches
    return replace(
        request,
        world_size=world_size,
        micro_batches=count if count > 1 else None,
        tensor_degree=schedule.tensor.degree,
    )
