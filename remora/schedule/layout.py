"""Where a schedule puts everything: stages on ranks, weights, gradients and optimizer state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from remora.schedule.chain import Chain
from remora.schedule.gradients import GradientRules
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.inference import NO_CACHE, UnitCache
from remora.schedule.parameters import StaticStorage
from remora.schedule.pipeline_layout import PipelineLayout
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement
from remora.schedule.state_bytes import StateBytes, streamed_storages
from remora.schedule.weight_fetch import Fetch

__all__ = ["Layout", "StepCosts", "host_link_rates"]

_Wanted = Callable[[StaticStorage], bool]


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The optimizer step of one rank.

    Attributes:
        step_s: seconds of the step itself.
        store_s: seconds of moving gradients to the host before it.
        load_s: seconds of moving weights back after it.
        gather_s: seconds of gathering sharded weights after it.
        temporary_bytes: device memory it takes meanwhile.
    """

    step_s: float
    store_s: float
    load_s: float
    gather_s: float
    temporary_bytes: int


class Layout(PipelineLayout):
    """A valid schedule of a problem, looked up by stage and rank."""

    def statics_of(self, rank: int) -> tuple[StaticStorage, ...]:
        """Weights, buffers and inputs of a rank, each once."""
        units = (u.index for number in self.stages_of(rank) for u in self.stage(number).units)
        return self.chain.statics.of_units(units)

    def state_of(self, rank: int) -> StateBytes:
        """What a rank keeps for the whole step."""
        return self._states[rank]

    def input_bytes(self, rank: int) -> int:
        """Batch of a rank: of all micro-batches that its stages see."""
        by_copy: dict[int, set[int]] = {}
        for number in self.stages_of(rank):
            by_copy.setdefault(number // self.num_stages, set()).add(number)
        total = 0
        for numbers in by_copy.values():
            units = (u.index for number in numbers for u in self.stage(number).units)
            statics = self.chain.statics.of_units(units)
            size = StateBytes(statics, self.problem.optimizer, self.state, 1, ()).input_bytes
            total += size * self._micro_batches[min(numbers)]
        return total

    def gradient_units(self, rank: int) -> Mapping[int, tuple[StaticStorage, ...]]:
        """Trained weights by the unit whose backward completes their gradient in its stage."""
        found: dict[int, dict[int, StaticStorage]] = {}
        for number in self.stages_of(rank):
            stage = self.stage(number)
            for entry in self.chain.statics.weights_of(range(stage.start, stage.end)):
                here = [u for u in entry.units if stage.start <= u < stage.end]
                if entry.gradient_bytes:
                    unit = entry.gradient_unit if entry.gradient_unit in here else min(here)
                    found.setdefault(unit, {})[entry.storage] = entry
        return {unit: tuple(entries.values()) for unit, entries in found.items()}

    def gradient_rules(self, rank: int) -> GradientRules:
        """What happens to the gradients of a rank."""
        return GradientRules(
            replicas=self.replicas,
            sharded=self.state.zero_stage >= 2,
            to_host=self.state.gradients is Placement.HOST,
            all_reduce_s=lambda size: self.links.all_reduce_s(rank, size),
            scatter_s=lambda size: self.links.gather_s(rank, size),
            store_s=lambda size: self.host_rates.store_s([size]),
        )

    def fetches(self, rank: int) -> list[tuple[Mapping[int, Fetch], bool, bool]]:
        """Weights of a rank that are brought in: by unit, from the host or not, once or always."""
        found: list[tuple[Mapping[int, Fetch], bool, bool]] = []
        streamed = self._streamed
        if streamed or self.state.host_caches:
            sizes = self._unit_bytes(rank, lambda entry: entry.storage in streamed)
            on_host = set(self.state.host_caches) & set(self._units_of(rank))
            load = {u: self._load(u, sizes.get(u, 0), u in on_host) for u in {*sizes, *on_host}}
            found.append((load, True, False))
        if self.state.zero_stage >= 2:
            whole = self.state.zero_stage == 3
            sizes = self._unit_bytes(rank, lambda entry: True)
            gather = {
                u: Fetch(self.links.gather_s(rank, n), n if whole else 0) for u, n in sizes.items()
            }
            found.append((gather, False, not whole))
        return found

    def cache_bytes(self, rank: int, on_host: bool) -> int:
        """Keys and values of a rank's units, of all micro-batches, on the host or not."""
        count = self.schedule.pipeline.micro_batches
        return count * sum(
            self._cache_of(unit).held
            for unit in self._units_of(rank)
            if (unit in self.state.host_caches) == on_host
        )

    def shared_gradients(self) -> Mapping[tuple[int, ...], int]:
        """Gradient bytes that groups of ranks have to sum: tied weights, and chimera's copies.

        Replicas that hold a shard of the gradients sum that shard only.
        """
        shards = self.replicas if self.state.zero_stage >= 2 else 1
        holders: dict[int, set[int]] = {}
        sizes: dict[int, int] = {}
        for rank in range(self.num_ranks):
            for entry in self.statics_of(rank):
                if entry.gradient_bytes:
                    holders.setdefault(entry.storage, set()).add(rank)
                    sizes[entry.storage] = -(-entry.gradient_bytes // shards)
        found: dict[tuple[int, ...], int] = {}
        for storage, ranks in sorted(holders.items()):
            if len(ranks) > 1:
                group = tuple(sorted(ranks))
                found[group] = found.get(group, 0) + sizes[storage]
        return found

    def step_costs(self, rank: int) -> StepCosts:
        """The optimizer step of a rank."""
        costs, state = self.chain.costs, self.state_of(rank)
        on_host = self.state.optimizer is Placement.HOST
        whole = self.chain.statics.gradient_bytes
        share = state.gradient_bytes / whole if whole else 1.0
        sharded = self.replicas if self.state.zero_stage >= 1 else 1
        step_s = costs.host_optimizer_time_s if on_host else costs.optimizer_time_s
        return StepCosts(
            step_s=step_s * share / sharded,
            store_s=self._store_s(state) if on_host else 0.0,
            load_s=self._load_s(state) if on_host else 0.0,
            gather_s=self._gather_s(rank, state) if self.state.zero_stage == 1 else 0.0,
            temporary_bytes=self._temporary_bytes(state),
        )

    @cached_property
    def host_rates(self) -> HostLinkRates:
        """What one rank gets of the link to the host."""
        return host_link_rates(self.problem, self.chain)

    def _store_s(self, state: StateBytes) -> float:
        if self.state.gradients is Placement.HOST or not state.gradient_bytes:
            return 0.0
        return self.host_rates.store_s([-(-state.gradient_bytes // self._step_shards)])

    def _load_s(self, state: StateBytes) -> float:
        resident = sum(
            e.num_bytes
            for e in state.statics
            if e.gradient_bytes and e.storage not in state.streamed
        )
        return self.host_rates.load_s([-(-resident // self._step_shards)]) if resident else 0.0

    def _gather_s(self, rank: int, state: StateBytes) -> float:
        return self.links.gather_s(rank, state.gradient_bytes)

    @property
    def _step_shards(self) -> int:
        return self.replicas if self.state.zero_stage >= 1 else 1

    def _temporary_bytes(self, state: StateBytes) -> int:
        """Temporaries of the step: on CUDA of all weights at once, elsewhere weight by weight."""
        spec = self.problem.optimizer
        if not spec.step_temporaries:
            return 0
        if self.problem.hardware.device_type == "cuda":
            return -(-state.gradient_bytes // self._step_shards)
        return spec.step_temporaries * state.temporary_bytes

    def _units_of(self, rank: int) -> list[int]:
        return [unit.index for number in self.stages_of(rank) for unit in self.stage(number).units]

    def _cache_of(self, unit: int) -> UnitCache:
        spec = self.problem.inference
        count = self.schedule.pipeline.micro_batches
        return NO_CACHE if spec is None else spec.cache_of(unit, count)

    def _load(self, unit: int, weights_bytes: int, cache_on_host: bool) -> Fetch:
        """Weights, if they wait on the host, and the cache, if it does."""
        cache = self._cache_of(unit) if cache_on_host else NO_CACHE
        loaded = [size for size in (weights_bytes, cache.loaded) if size]
        return Fetch(
            duration_s=self.host_rates.load_s(loaded),
            num_bytes=weights_bytes,
            cache_bytes=cache.held,
            store_s=self.host_rates.store_s([cache.stored]) if cache_on_host else 0.0,
        )

    def _unit_bytes(self, rank: int, wanted: _Wanted) -> dict[int, int]:
        """Bytes of the wanted weights of every unit of a rank."""
        sizes: dict[int, int] = {}
        for number in self.stages_of(rank):
            for unit in self.stage(number).units:
                entries = self.chain.statics.weights_of((unit.index,))
                size = sum(entry.num_bytes for entry in entries if wanted(entry))
                if size:
                    sizes[unit.index] = size
        return sizes

    @cached_property
    def _streamed(self) -> frozenset[int]:
        return streamed_storages(self.chain.statics.all, self.state)

    @cached_property
    def _states(self) -> tuple[StateBytes, ...]:
        return tuple(
            StateBytes(
                self.statics_of(rank),
                self.problem.optimizer,
                self.state,
                self.replicas,
                self._streamed,
            )
            for rank in range(self.num_ranks)
        )


def host_link_rates(problem: Problem, chain: Chain) -> HostLinkRates:
    """What one rank gets of the link to the host: k ranks that share it get 1/k each."""
    costs, host = chain.costs, problem.hardware.host
    on_node = min(problem.hardware.devices_per_node, problem.world_size)
    sharing = max(1, min(host.ranks_per_link, on_node))
    return HostLinkRates(
        costs.d2h_bytes_per_s / sharing, costs.h2d_bytes_per_s / sharing, costs.copy_latency_s
    )
