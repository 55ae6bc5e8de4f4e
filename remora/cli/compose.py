"""Composing a command's configuration with Hydra, once or for every job of a multirun."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from remora.cli.console import output, print_files
from remora.cli.folders import check_folder
from remora.cli.help import config_name as config_name_of
from remora.cli.hydra_errors import translated
from remora.cli.overrides import allowed_overrides
from remora.cli.schema import SCHEMAS
from remora.cli.sweep_table import gathered, write_job, write_sweep
from remora.errors import InvalidInputError, UnknownNameError
from remora.report.tables import cells_table

__all__ = ["compose_config", "run_command", "run_composed"]

_CONFIG_MODULE = "remora.conf"
_VERSION_BASE = "1.3"


def run_composed(command: str, overrides: Sequence[str], multirun: bool) -> None:
    """Compose and run a command, or hand a multirun to Hydra's sweeper and launcher.

    Args:
        command: as typed, for example ``train-agent``.
        overrides: ``key=value`` arguments.
        multirun: run every combination of comma-separated values.

    Raises:
        UsageError: the configuration is wrong.
        RemoraError: the command failed.
    """
    config_name = config_name_of(command)
    if multirun:
        _run_multirun(config_name, overrides)
    else:
        run_command(config_name, compose_config(config_name, overrides), None)


def compose_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration; it is checked against its schema.

    Args:
        config_name: a key of ``SCHEMAS``.
        overrides: ``key=value`` arguments.

    Raises:
        UnknownNameError: an unknown key, group or name; the message has the closest ones.
        InvalidInputError: a value of the wrong type, or an argument of another form.
    """
    from hydra import compose, initialize_config_module

    _register_schema(config_name)
    with (
        initialize_config_module(_CONFIG_MODULE, job_name="remora", version_base=_VERSION_BASE),
        translated(config_name, overrides, compose),
    ):
        config = compose(config_name, overrides=list(allowed_overrides(overrides)))
    return config


def run_command(config_name: str, config: DictConfig, job_folder: Path | None) -> float | None:
    """Run a command with its configuration, which is read-only from here on.

    Args:
        config_name: a key of ``SCHEMAS``; the module ``remora.cli.<config_name>`` has ``run``.
        config: composed.
        job_folder: takes the place of the default folder.

    Returns:
        The figure that a sweeper minimises, if the command has one.

    Raises:
        UsageError: a key is missing or unknown.
        RemoraError: the command failed.
    """
    _refuse_additions(config_name, config)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InvalidInputError(f"{missing[0]} is missing; give {missing[0]}=")
    if config.out is None:
        with open_dict(config):
            config.out = str(job_folder or _default_folder(config_name))
    check_folder("out", config.out)
    OmegaConf.set_readonly(config, True)
    module = import_module(f"remora.cli.{config_name}")
    figure: float | None = module.run(config)
    return figure


def _refuse_additions(config_name: str, config: DictConfig) -> None:
    """Refuse what ``+key=value`` adds, which Hydra lets pass at the top."""
    known = [field.name for field in fields(SCHEMAS[config_name])]
    for key in config:
        if key not in known:
            raise UnknownNameError("key", str(key), known)


def _register_schema(config_name: str) -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=f"{config_name}_schema", node=SCHEMAS[config_name])


def _default_folder(config_name: str) -> Path:
    now = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("outputs") / config_name.replace("_", "-") / now


def _run_multirun(config_name: str, overrides: Sequence[str]) -> None:
    import hydra

    _register_schema(config_name)
    given_folders = [text for text in overrides if text.startswith("out=")]
    folders = [text.removeprefix("out=") for text in given_folders]
    folder = folders[-1] if folders else str(_default_folder(config_name))
    check_folder("out", folder)
    settings = [
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        f"hydra.sweep.dir={folder}",
        "hydra.sweep.subdir=${hydra.job.num}",
    ]
    # Hydra reads the process's arguments, and by default turns every error into exit code 1.
    given, variable = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Every job has a folder of its own inside that of the sweep.
    jobs = [text for text in allowed_overrides(overrides) if text not in given_folders]
    sys.argv = ["remora", "--multirun", *settings, *jobs]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with translated(config_name, overrides, None):
            hydra.main(
                config_path=f"pkg://{_CONFIG_MODULE}",
                config_name=config_name,
                version_base=_VERSION_BASE,
            )(_JOBS[config_name])()
    finally:
        _show_sweep(Path(folder), " ".join(["remora", *given[1:]]))
        sys.argv = given
        if variable is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = variable


def _show_sweep(folder: Path, command: str) -> None:
    """Print and write the table of all jobs that there are, also if one of them failed."""
    header, rows = gathered(folder)
    if rows:
        console = output()
        console.print(cells_table(header, rows))
        print_files(console, [write_sweep(folder, header, rows, command)])


def _job(config_name: str, config: Any) -> float | None:
    from hydra.core.hydra_config import HydraConfig

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    figure = run_command(config_name, config, folder)
    write_job(folder, list(hydra_config.overrides.task), figure)
    return figure


def _optimize_job(config: DictConfig) -> float | None:
    return _job("optimize", config)


def _fits_job(config: DictConfig) -> float | None:
    return _job("fits", config)


def _verify_job(config: DictConfig) -> float | None:
    return _job("verify", config)


def _replan_job(config: DictConfig) -> float | None:
    return _job("replan", config)


def _train_agent_job(config: DictConfig) -> float | None:
    return _job("train_agent", config)


def _bench_quality_job(config: DictConfig) -> float | None:
    return _job("bench_quality", config)


def _profile_job(config: DictConfig) -> float | None:
    return _job("profile", config)


def _train_cost_model_job(config: DictConfig) -> float | None:
    return _job("train_cost_model", config)


def _bench_fidelity_job(config: DictConfig) -> float | None:
    return _job("bench_fidelity", config)


def _bench_peers_job(config: DictConfig) -> float | None:
    return _job("bench_peers", config)


def _bench_transfer_job(config: DictConfig) -> float | None:
    return _job("bench_transfer", config)


# Launchers send jobs to other processes, so each is a function at the top of a module.
_JOBS = {
    "optimize": _optimize_job,
    "fits": _fits_job,
    "verify": _verify_job,
    "replan": _replan_job,
    "train_agent": _train_agent_job,
    "bench_quality": _bench_quality_job,
    "bench_fidelity": _bench_fidelity_job,
    "bench_peers": _bench_peers_job,
    "bench_transfer": _bench_transfer_job,
    "profile": _profile_job,
    "train_cost_model": _train_cost_model_job,
}
