"""What streaming the weights of any set of units does to one step, as small tables.

They say exactly what the simulator says, for every set of units.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from remora.schedule.host_copies import HostLinkRates
from remora.schedule.program import Stream
from remora.schedule.schedule import Placement, Schedule

__all__ = ["Bundle", "Point", "StreamTables", "Task"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Weights that the same units read; streamed if all of these are.

    Attributes:
        units: who reads them.
        num_bytes: of all of them.
        returned_bytes: of those that the step on the host changes, so that they come back after
            it unless they are streamed.
        host_bytes: pinned host memory that streaming them takes in addition.
    """

    units: frozenset[int]
    num_bytes: int
    returned_bytes: int
    host_bytes: int

    def freed_bytes(self, present: Collection[int]) -> int:
        """What streaming them frees while ``present`` units have theirs on the device."""
        return self.num_bytes * (1 - len(self.units.intersection(present)))


@dataclass(frozen=True, slots=True)
class Point:
    """Device memory at one moment of the compute stream.

    Attributes:
        num_bytes: level with no weights streamed.
        present: units whose weights are there even if they are streamed.
    """

    num_bytes: int
    present: frozenset[int]


@dataclass(frozen=True, slots=True)
class Task:
    """One instruction.

    Attributes:
        duration_s: seconds it takes; 0 for the load of a unit's streamed weights.
        queue: the task before it in its stream; -1 for the first.
        waits: tasks that must have ended before it starts.
        load: unit whose streamed weights it brings; -1 for every other task.
        stream: where it runs.
    """

    duration_s: float
    queue: int
    waits: tuple[int, ...]
    load: int
    stream: Stream


@dataclass(frozen=True)
class StreamTables:
    """One memory plan with the optimizer on the host, for every set of streamed units.

    Attributes:
        schedule: the memory plan; its state streams nothing.
        units: units that have weights, ascending.
        bundles: their weights.
        points: moments at which the memory is largest, one per set of present units.
        tasks: all that runs, in an order in which it can; the optimizer step is the last.
        rates: of the host link.
        host_bytes: peak of pinned host memory with no weights streamed.
    """

    schedule: Schedule
    units: tuple[int, ...]
    bundles: tuple[Bundle, ...]
    points: tuple[Point, ...]
    tasks: tuple[Task, ...]
    rates: HostLinkRates
    host_bytes: int

    def with_streamed(self, units: Collection[int]) -> Schedule:
        """The schedule that streams the weights of ``units``."""
        chosen = tuple(sorted(units))
        place = Placement.HOST if chosen else Placement.DEVICE
        state = replace(self.schedule.state, weights=place, streamed_units=chosen)
        return replace(self.schedule, state=state)

    def streamed(self, units: Collection[int]) -> list[Bundle]:
        """Weights that wait on the host if ``units`` are streamed: shared ones only with all."""
        return [bundle for bundle in self.bundles if bundle.units <= frozenset(units)]

    def peak_bytes(self, units: Collection[int]) -> int:
        """Largest level on the device with ``units`` streamed."""
        away = self.streamed(units)
        return max(
            point.num_bytes - sum(bundle.freed_bytes(point.present) for bundle in away)
            for point in self.points
        )

    def host_peak_bytes(self, units: Collection[int]) -> int:
        """Largest level of pinned host memory with ``units`` streamed."""
        return self.host_bytes + sum(bundle.host_bytes for bundle in self.streamed(units))

    def return_s(self, units: Collection[int]) -> float:
        """Seconds after the optimizer step in which changed weights come back."""
        away = {bundle.units for bundle in self.streamed(units)}
        num_bytes = sum(b.returned_bytes for b in self.bundles if b.units not in away)
        return self.rates.load_s([num_bytes]) if num_bytes else 0.0

    def step_time_s(self, units: Collection[int]) -> float:
        """Seconds of the step with ``units`` streamed."""
        loads: dict[int, int] = {}
        for bundle in self.streamed(units):
            for unit in bundle.units:
                loads[unit] = loads.get(unit, 0) + bundle.num_bytes
        durations_s = {unit: self.rates.load_s([size]) for unit, size in loads.items()}
        ends: list[float] = []
        for task in self.tasks:
            before = [ends[task.queue]] if task.queue >= 0 else [0.0]
            if task.load >= 0 and task.load not in durations_s:
                ends.append(before[0])
                continue
            waits = (w for w in task.waits if self._happens(w, durations_s))
            start_s = max((*before, *(ends[w] for w in waits)))
            ends.append(start_s + durations_s.get(task.load, task.duration_s))
        return max(*ends, ends[-1] + self.return_s(units))

    def _happens(self, task: int, loads: Collection[int]) -> bool:
        unit = self.tasks[task].load
        return unit < 0 or unit in loads
