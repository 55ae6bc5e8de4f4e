"""``remora fits``: will it fit, what takes the memory, and how large may the batch be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from omegaconf import DictConfig

from remora.api.batch_tracer import BatchTracer
from remora.api.fitting import Fit, make_fit
from remora.api.passes import pass_example
from remora.api.placement import build_to_trace
from remora.api.request import check_request
from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import local_device, make_request, model_source, units_of
from remora.errors import InfeasibleError
from remora.report.files import write_json
from remora.report.tables import breakdown_table
from remora.report.wording import bytes_text
from remora.schedule.inference import Mode

__all__ = ["run"]


def run(config: DictConfig) -> None:
    """Print the answer and write ``fits.json``.

    Raises:
        InfeasibleError: no schedule fits.
    """
    source = model_source(config.model)
    request = make_request(config)
    check_request(request)
    with progress_shown() as progress:
        progress.stage(f"tracing {source.name}")
        example = build_to_trace(source, local_device(request))
        example = pass_example(example) if request.mode == Mode.INFERENCE else example
        tracer = BatchTracer(example, request, units_of(config), source.name)
        fit = make_fit(tracer, request, config.largest_batch, progress)
    _print(fit)
    path = Path(config.out) / "fits.json"
    write_json(path, {"version": 1, "fits": fit.fits, **dataclasses.asdict(fit)})
    print_files(output(), [path])
    if not fit.fits:
        raise InfeasibleError(
            f"{fit.model_name} does not fit into {bytes_text(fit.budget_bytes)} with any schedule",
            fit.least_peak_bytes,
            fit.least_breakdown_bytes,
        )


def _print(fit: Fit) -> None:
    console = output()
    if fit.fits_unscheduled:
        answer = "fits as it is"
    elif fit.fits:
        answer = "fits with a schedule (remora optimize finds a fast one)"
    else:
        answer = "does not fit"
    print_line(
        console,
        f"{fit.model_name} with batch {fit.batch} {answer}: budget {bytes_text(fit.budget_bytes)} "
        f"on {fit.hardware_name}, peak {bytes_text(fit.keep_all_peak_bytes)} as it is, "
        f"{bytes_text(fit.least_peak_bytes)} at the least.",
    )
    print_line(console)
    console.print(breakdown_table(list(fit.keep_all_breakdown_bytes.items())))
    print_line(console)
    if fit.largest_batch_keep_all is not None and fit.largest_batch is not None:
        print_line(
            console,
            f"largest batch: {_batch_text(fit, fit.largest_batch_keep_all)} as it is, "
            f"{_batch_text(fit, fit.largest_batch)} with a schedule of least memory.",
        )


def _batch_text(fit: Fit, batch: int) -> str:
    reached = fit.most_batch is not None and batch >= fit.most_batch
    return f"{batch} or more (no larger one was tried)" if reached else str(batch)
