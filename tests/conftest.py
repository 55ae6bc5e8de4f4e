"""Settings that hold for every test: reproducible, offline, and outside the user's folders."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

# Read by torch and numba when they are imported, so set before any test imports them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, max_examples=50, database=None
)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Let processes that tests start be interrupted, also where a shell started the tests with &.

    Such a shell has its jobs ignore the signal, and their children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _private_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep measurements and tracker files of the tests out of the user's home."""
    root = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(root / "config"))
        patch.setenv("XDG_DATA_HOME", str(root / "data"))
        yield


def pytest_collection_finish() -> None:
    """Leave what was imported out of later searches for garbage.

    Every measured run begins with one, which takes longer than the runs of small models.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is no CUDA device."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
