"""What the state of a model has to do before every compute instruction of a program."""

from __future__ import annotations

from collections.abc import Callable

from remora.executor.memory.plan import RegionSpec, RuntimePlan
from remora.executor.state.leaving_gradients import LeavingGradients
from remora.executor.state.weight_stream import WeightStream

__all__ = ["PassPoints", "StatePoints"]


class StatePoints:
    """The compute instructions of one rank: units that run forward, again, or backward.

    Args:
        weights: brought in for them; None if all stay on the device.
    """

    def __init__(self, weights: WeightStream | None) -> None:
        self.gradients: LeavingGradients | None = None
        self._weights = weights
        self._running: PassPoints | None = None
        self._pending: Callable[[], None] | None = None
        self._made_room = False

    def is_running(self, one: PassPoints) -> bool:
        """Whether the latest instruction was one of ``one``."""
        return self._running is one

    def begin(self, one: PassPoints, unit: int, upcoming: int | None) -> None:
        """Note that an instruction of ``unit`` begins.

        Args:
            one: the forward that it belongs to.
            unit: its unit.
            upcoming: the unit that runs after it; None at the end of a task.
        """
        self._pending = None
        self._running = one
        if not self._made_room:
            self._make_room(unit)
        self._made_room = False
        if self._weights is not None:
            self._weights.use(unit, () if upcoming is None else (upcoming,))

    def expect(self, backward: Callable[[], None]) -> None:
        """Note that a backward is about to begin, unless something is to be made again first.

        What comes back from the host for it is taken only now, so what goes makes room before.
        """
        self.begin_expected()
        self._pending = backward
        self._make_room(None)
        self._made_room = True

    def begin_expected(self) -> None:
        """Begin the backward that is expected, if it has not begun."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()

    def finish(self) -> None:
        """Note that no instruction of this step is left but the optimizer's."""
        self.begin_expected()
        if self.gradients is not None:
            self.gradients.flush()
        if self._weights is not None:
            self._weights.finish()
        self._running = None

    def _make_room(self, unit: int | None) -> None:
        """Give up what the instruction that has ended leaves, but for the weights of ``unit``."""
        if self.gradients is not None:
            self.gradients.before_compute()
        if self._weights is not None:
            self._weights.leave(unit)


class PassPoints:
    """The compute instructions of one forward of a stage and of its backward.

    Args:
        points: of the rank.
        plan: of the stage.
    """

    def __init__(self, points: StatePoints, plan: RuntimePlan) -> None:
        self._points = points
        self._plan = plan
        self._target = plan.end
        self._backward = plan.end
        self._filled: set[RegionSpec] = set()

    def forward(self, unit: int) -> None:
        """Note that the forward of a unit begins."""
        self._points.begin(self, unit, unit + 1 if unit + 1 < self._plan.end else None)

    def fill(self, region: RegionSpec) -> Callable[[int], None]:
        """Note that a region is about to run again.

        Returns:
            what to call where a unit of it begins.
        """
        self._filled.add(region)
        end = min((r.start for r in self._at_the_end(region)), default=region.end)

        def begin(unit: int) -> None:
            following = unit + 1 if unit + 1 < end else self._next_to_run(self._target)
            self._again(unit, following)

        return begin

    def part_again(self, unit: int) -> None:
        """Note that a part of a unit is about to be made again."""
        self._again(unit, unit)

    def reach(self, unit: int) -> None:
        """Note that the backward of a unit comes next."""
        self._points.expect(lambda: self.backward(unit))
        self._target = unit

    def backward(self, unit: int) -> None:
        """Note that the backward of a unit runs, and everything it needs is there."""
        if self._backward == unit and self._points.is_running(self):
            return
        self._backward = self._target = unit
        inside = unit > self._plan.start
        self._points.begin(self, unit, self._next_to_run(unit - 1) if inside else None)

    def _again(self, unit: int, following: int) -> None:
        self._backward = self._plan.end
        self._points.begin(self, unit, following)

    def _next_to_run(self, target: int) -> int:
        """The unit that runs first for the backward of ``target``: it, or where a rerun begins."""
        for region in self._plan.regions:
            if region.start <= target < region.end and region not in self._filled:
                return region.start
        return target

    def _at_the_end(self, region: RegionSpec) -> list[RegionSpec]:
        """Regions inside of ``region`` that end with it; they are filled on their own."""
        return [
            inner
            for inner in self._plan.regions
            if inner != region and inner.end == region.end and inner.start >= region.start
        ]
