"""``remora doctor``: what is installed, which accelerators there are, what is missing."""

from __future__ import annotations

import platform
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distributions,
    packages_distributions,
    version,
)

from remora import __version__
from remora.cli.console import output, print_line
from remora.hardware.cache import cache_folder
from remora.hardware.memory import free_memory_bytes, host_memory_bytes
from remora.report.tables import cells_table
from remora.report.wording import bytes_text

__all__ = ["name_clashes", "run"]

_IMPORT, _COMMAND = "remora", "remora.cli.main:main"

_CORE = (
    "torch",
    "numba",
    "torch-geometric",
    "gymnasium",
    "stable-baselines3",
    "sb3-contrib",
    "hydra-core",
    "wandb",
)
# Package, the extra that brings it, and what it is for.
_EXTRAS = (
    ("transformers", "zoo", "language and vision models of the zoo"),
    ("neuraloperator", "zoo", "model fno2d"),
    ("accelerate", "loops", "training by the Trainer of transformers"),
    ("lightning", "loops", "training by the Trainer of Lightning"),
    ("highspy", "solvers", "exact joint schedules by integer programming"),
    ("ortools", "solvers", "exact joint schedules by constraint programming"),
    ("hydra-submitit-launcher", "slurm", "multiruns on a Slurm cluster"),
    ("hydra-ray-launcher", "ray", "multiruns on a Ray cluster"),
    ("hydra-optuna-sweeper", "optuna", "multiruns that search for good values"),
    ("torchao", "lowbit", "8-bit optimizers, products and weights"),
    ("pulp", "bench", "PyTorch's sac_ilp in bench peers"),
)


def run() -> None:
    """Print versions, devices and extras, and what else installs an import of our name."""
    console = output()
    rows = [("remora", __version__), ("python", platform.python_version())]
    rows += [(name, _version(name) or "MISSING") for name in _CORE]
    console.print(cells_table(("package", "version"), rows, numeric=False))
    print_line(console)
    console.print(cells_table(("device", "memory", "free"), _devices()))
    print_line(console)
    extras = [
        (name, extra, purpose, _version(name) or "missing") for name, extra, purpose in _EXTRAS
    ]
    console.print(
        cells_table(("optional package", "extra", "for", "version"), extras, numeric=False)
    )
    print_line(console)
    print_line(console, f"Measurements and traces are kept in {cache_folder()}.")
    print_line(console, "Delete it to measure anew, for example what a busy machine slowed down.")
    for name, found in sorted(name_clashes().items()):
        print_line(console)
        print_line(
            console,
            f"Distribution {name} {found} installs an import named {_IMPORT} too, so that either "
            f"may be loaded: pip uninstall {name}, then install Remora again.",
        )


def name_clashes() -> dict[str, str]:
    """Other distributions that install an import of our name, with their versions.

    One of them may even be called as we are; ours is known by its command.
    """
    names = set(packages_distributions().get(_IMPORT, ())) | {_IMPORT}
    return {
        distribution.name: distribution.version
        for distribution in distributions()
        if distribution.name in names and not _is_ours(distribution)
    }


def _is_ours(distribution: Distribution) -> bool:
    return any(
        entry.name == _IMPORT and entry.value == _COMMAND for entry in distribution.entry_points
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[tuple[str, str, str]]:
    import torch

    rows = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        rows.append((torch.cuda.get_device_name(index), bytes_text(total), bytes_text(free)))
    cpu = f"cpu ({torch.get_num_threads()} threads)"
    rows.append((cpu, bytes_text(host_memory_bytes()), bytes_text(free_memory_bytes())))
    return rows
