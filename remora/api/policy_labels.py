"""Labels for the policy of whole plans: problems are drawn, and each is searched for long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from remora.api.joint_config import joint_config
from remora.api.joint_environment import spec_source

__all__ = ["make_policy_labels"]


def make_policy_labels(
    folder: Path | str,
    count: int,
    config: str = "joint",
    seed: int = 0,
    one_device_s: float = 3.0,
    pipeline_s: float = 10.0,
    workers: int = 1,
    listener: Callable[[str, int, int], None] | None = None,
) -> None:
    """Make the labels of the first problems of a seed that a folder lacks.

    Args:
        folder: where they are kept.
        count: problems to draw; those for which nothing fits end as a note instead of a label.
        config: name of a file in ``conf/env``.
        seed: of the draws.
        one_device_s: seconds of the processor for the search on one device, after greedy.
        pipeline_s: the same for several ranks.
        workers: processes.
        listener: told name, number done and number of all for every problem that is done.

    Raises:
        UnknownNameError: no such file, model or hardware.
        InvalidInputError: a value is not allowed.
        UsageError: a file cannot be written.
    """
    from remora.agents.learned.labels.making import SearchTimes, make_labels
    from remora.envs.drawing import draw_spec

    recipe = joint_config(config).recipe
    specs = [draw_spec(recipe, seed, number) for number in range(count)]
    times = SearchTimes(one_device_s, pipeline_s)
    make_labels(Path(folder), specs, spec_source, times, workers, listener)
