"""What the workers of a benchmark hand in, as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from remora.api.bench.rows import Row
from remora.api.bench.task import Opened, Outcome, row_without_answer
from remora.api.bench.workers import Lost

__all__ = ["Intake"]


@dataclass
class Intake:
    """Turns what comes into rows; a run whose worker was lost has one, too.

    Attributes:
        keep: is told every row.
        notes: faults of the best known answers, each once.
        opened: what is known of every problem whose worker began.
    """

    keep: Callable[[Row], None]
    notes: list[str]
    opened: dict[str, Opened] = field(default_factory=dict)

    def take(self, found: Opened | Outcome | Lost) -> None:
        """Keep what a worker found."""
        if isinstance(found, Opened):
            self.opened[found.problem] = found
            if found.known_fault and found.known_fault not in self.notes:
                self.notes.append(found.known_fault)
        elif isinstance(found, Lost):
            task = found.task
            opened = self.opened.get(task.item.name, Opened(task.item.name, "", None, None, ""))
            self.keep(row_without_answer(task, found.run, opened, task.time_limit_s, found.reason))
        else:
            self.keep(found.row)
