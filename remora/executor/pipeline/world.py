"""The ranks of a run: which pipeline and replica a process belongs to, and its groups.

Of ``degree`` ranks that share layers the k-th one of replica j of pipeline rank r is global rank
(r * replicas + j) * degree + k, as schedules are priced. Ranks of equal j and k are a lane: they
send each other the messages of a pipeline.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from remora.errors import InvalidInputError
from remora.executor.pipeline.exchange import Links

__all__ = ["World", "join_world", "joined_ranks", "rank_device"]


@dataclass(frozen=True)
class World:
    """Where this process stands.

    Attributes:
        num_ranks: ranks of one pipeline.
        replicas: pipelines side by side.
        degree: ranks that share every layer.
        rank: of this process in its pipeline.
        replica: number of its pipeline.
        part: position of this process among those that share its layers.
        pipeline: the ranks of its pipeline.
        replica_group: the processes of the same rank and part in all pipelines.
        tensor_group: the processes that share its layers.
        links: to the other ranks of its pipeline.
    """

    num_ranks: int
    replicas: int
    degree: int
    rank: int
    replica: int
    part: int
    pipeline: dist.ProcessGroup
    replica_group: dist.ProcessGroup
    tensor_group: dist.ProcessGroup
    links: Links

    def group_of(self, ranks: Sequence[int]) -> dist.ProcessGroup | None:
        """Make a group of some ranks of every pipeline; all processes must call it alike.

        Returns:
            the one of this pipeline; None if this rank is not in it.
        """
        lanes = self.replicas * self.degree
        groups = [dist.new_group([rank * lanes + lane for rank in ranks]) for lane in range(lanes)]
        return groups[self.replica * self.degree + self.part] if self.rank in ranks else None


def rank_device(device_type: str) -> torch.device:
    """Return the device of this rank, and make it the current one.

    Raises:
        InvalidInputError: the node has fewer CUDA devices than ranks.
    """
    if device_type != "cuda":
        return torch.device(device_type)
    number = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count()
    if number >= count:
        raise InvalidInputError(
            f"world_size is {os.environ.get('WORLD_SIZE', '1')}, and this node has {count} CUDA "
            "devices; allowed: as many ranks on a node as it has devices"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


@contextlib.contextmanager
def joined_ranks(device: torch.device, timeout_s: float) -> Iterator[None]:
    """Join the ranks that torchrun started, or be the only rank.

    Args:
        device: of this rank; what lies on CUDA devices goes by NCCL, the rest by Gloo.
        timeout_s: seconds after which a message that does not come is an error.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = datetime.timedelta(seconds=timeout_s)
    if "RANK" not in os.environ:
        store = torch._C._distributed_c10d.HashStore()
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    else:
        dist.init_process_group(backend, timeout=timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()


def join_world(num_ranks: int, degree: int = 1) -> World:
    """Make the groups that a pipeline needs, inside of :func:`joined_ranks`.

    Args:
        num_ranks: ranks of one pipeline.
        degree: ranks that share every layer.

    Raises:
        InvalidInputError: the number of processes is no multiple of it.
    """
    world_size, devices = dist.get_world_size(), num_ranks * degree
    if world_size % devices:
        raise InvalidInputError(
            f"world_size is {world_size}; allowed for a pipeline of {devices} ranks: multiples "
            f"of {devices}"
        )
    lanes = world_size // num_ranks
    rank, lane = divmod(dist.get_rank(), lanes)
    replica, part = divmod(lane, degree)
    pipelines = [[r * lanes + other for r in range(num_ranks)] for other in range(lanes)]
    pipeline, upward, downward = (
        [dist.new_group(members) for members in pipelines][lane] for _ in range(3)
    )
    firsts = range(0, lanes, degree)
    same_part = [
        [dist.new_group([r * lanes + first + k for first in firsts]) for k in range(degree)]
        for r in range(num_ranks)
    ]
    sharing = [
        [dist.new_group([r * lanes + first + k for k in range(degree)]) for first in firsts]
        for r in range(num_ranks)
    ]
    return World(
        num_ranks=num_ranks,
        replicas=lanes // degree,
        degree=degree,
        rank=rank,
        replica=replica,
        part=part,
        pipeline=pipeline,
        replica_group=same_part[rank][part],
        tensor_group=sharing[rank][replica],
        links=Links(rank, pipelines[lane], upward, downward),
    )
