"""Lower bounds on the step time that no schedule can beat."""

from remora.simulator.bounds.all_schedules import lower_bound_s, lower_bounds, lower_bounds_like
from remora.simulator.bounds.pipelines import fastest_pipeline
from remora.simulator.bounds.records import LowerBounds

__all__ = ["LowerBounds", "fastest_pipeline", "lower_bound_s", "lower_bounds", "lower_bounds_like"]
