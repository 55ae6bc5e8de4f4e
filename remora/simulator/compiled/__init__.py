"""The compiled engine: lowers and simulates schedules without making a program.

It gives the same numbers as lowering to a :class:`~remora.schedule.program.Program` and running
that, and exists for speed alone: search and training simulate thousands of schedules a second.
"""

from remora.simulator.compiled.figures import CompiledSimulator, Figures, simulator_of

__all__ = ["CompiledSimulator", "Figures", "simulator_of"]
