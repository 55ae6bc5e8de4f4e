"""PyTorch's program for selective checkpointing of a module, fed with our costs of its operators.

Its own estimator wants a CUDA device and patches; the program that chooses is called as it is.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from remora.errors import MissingExtraError
from remora.graph.model_graph import ModelGraph
from remora.schedule.problem import CostTable

__all__ = ["SacPlan", "sac_plan"]


@dataclass(frozen=True)
class SacPlan:
    """What is saved of one module.

    Attributes:
        names: of its forward operators, in order.
        saved: whether the result of each is saved.
    """

    names: tuple[str, ...]
    saved: tuple[bool, ...]

    def contexts(self, *unused: Any) -> Any:
        """The pair of contexts that PyTorch's checkpoint takes, for one call."""
        from torch.utils.checkpoint import (
            CheckpointPolicy,
            create_selective_checkpoint_contexts,
        )

        seen = {False: 0, True: 0}

        def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
            place = seen[context.is_recompute]
            seen[context.is_recompute] += 1
            known = place < len(self.names) and self.names[place] == str(op)
            if known and self.saved[place]:
                return CheckpointPolicy.MUST_SAVE
            return CheckpointPolicy.PREFER_RECOMPUTE

        return create_selective_checkpoint_contexts(policy)


def sac_plan(graph: ModelGraph, costs: CostTable, path: str, share: float) -> SacPlan:
    """Choose what to save of a module.

    Args:
        graph: of the model.
        costs: of its operators.
        path: of the module, which is called once.
        share: of the bytes of its results that may be saved.

    Raises:
        MissingExtraError: pulp is not installed.
    """
    try:
        from torch.distributed._tools.sac_estimator import SACStats
        from torch.distributed._tools.sac_ilp import get_optimal_checkpointing_policy_per_module
    except ImportError as error:
        raise MissingExtraError("pulp", "bench", "PyTorch's sac_ilp") from error
    forward = range(graph.num_forward_ops)
    inside = [i for i in forward if f"{graph.ops[i].module}.".startswith(f"{path}.")]
    # What selective checkpointing never asks for.
    ops = [i for i in inside if "detach" not in graph.ops[i].name]
    place = {op: position for position, op in enumerate(ops)}
    # PyTorch refuses to keep results that are changed in place.
    changed = {i for pair in _in_place(graph, place) for i in pair}
    created = {s.created: s.num_bytes for s in graph.storages if s.created in place}
    stats = SACStats(
        func_names=[graph.ops[i].name for i in ops],
        runtimes=[costs.op_time_s[i] * 1e3 for i in ops],
        memory=[created.get(i, 0) for i in ops],
        view_like_ops=[place[i] for i in ops if graph.ops[i].view or place[i] in changed],
        rand_ops=[place[i] for i in ops if graph.ops[i].random],
        saved_autograd_ops=[],
        inplace_ops=[],
        force_store_random=False,
    )
    with warnings.catch_warnings():
        # pulp says what its next version will not have any more.
        warnings.simplefilter("ignore", DeprecationWarning)
        chosen = get_optimal_checkpointing_policy_per_module(stats, share)
    return SacPlan(
        tuple(graph.ops[i].name for i in ops), tuple(bool(decision) for decision in chosen)
    )


def _in_place(graph: ModelGraph, place: dict[int, int]) -> list[tuple[int, int]]:
    """Operators that change a result in place, with the one that made it."""
    return [
        (place[i], place[graph.storages[storage].created])
        for i in place
        for storage in graph.ops[i].mutates
        if graph.storages[storage].created in place
    ]
