"""What could happen to a unit, what does, and why, as plain records and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from remora.report.wording import bytes_text, duration_text, percent_text

__all__ = ["Alternative", "Effect", "UnitChoice", "reason"]

_NOTHING = 1e-4
"""A change below this share of the step counts as none."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the whole step would be if one unit had another option and all else stayed.

    Attributes:
        more_s: seconds more than the plan's step.
        over_bytes: peak over the budget; negative where it stays below.
        more_bytes: peak over the plan's peak.
    """

    more_s: float
    over_bytes: int
    more_bytes: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to treat a unit; seconds and bytes are those of one micro-batch.

    Attributes:
        name: in words.
        family: ``keep``, ``recompute``, ``offload`` or ``mixed``: the column it stands in.
        time_s: seconds added to the compute stream.
        held_bytes: left on the device between forward and backward (in inference: all the time).
        moved_bytes: over the host link, one way.
        copy_s: seconds of these copies, both ways; they may run beside compute.
        taken: whether the plan does this.
        effect: on the whole step; None for what is taken, or where it was not simulated.
    """

    name: str
    family: str
    time_s: float
    held_bytes: int
    moved_bytes: int
    copy_s: float
    taken: bool = False
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class UnitChoice:
    """A unit, what happens to it, and its alternatives.

    Attributes:
        index, name: of the unit.
        action: what happens to it, in words.
        groups: groups of units recomputed together around it, outer first.
        alternatives: the one taken is among them.
        fixed_reason: why nothing but keeping is possible; empty if there is a choice.
    """

    index: int
    name: str
    action: str
    groups: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    fixed_reason: str = ""

    @property
    def taken(self) -> Alternative | None:
        """What the plan does, if that has a price of its own."""
        return next((a for a in self.alternatives if a.taken), None)


def reason(choice: UnitChoice, step_time_s: float) -> str:
    """Say why a unit is treated as it is: by what its alternatives would change.

    Args:
        choice: the unit.
        step_time_s: of the plan, to tell what counts as a change.
    """
    taken = choice.taken
    if choice.fixed_reason:
        return f"No choice: {choice.fixed_reason}."
    if taken is None or len(choice.alternatives) == 1:
        return "No choice: nothing else would free memory." if taken is not None else ""
    rivals = [a for a in choice.alternatives if not a.taken]
    judged = [rival for rival in rivals if rival.effect is not None]
    if not judged:
        return _by_price(taken, rivals)
    kept = next((rival for rival in judged if rival.family == "keep"), None)
    others = [rival for rival in judged if rival is not kept]
    fitting = [rival for rival in others if rival.effect and rival.effect.over_bytes <= 0]
    best = min(fitting or others, key=_more_s, default=None)
    told = [rival for rival in (kept, best) if rival is not None]
    return " ".join(_would(rival, step_time_s) for rival in told)


def _more_s(alternative: Alternative) -> float:
    return alternative.effect.more_s if alternative.effect else 0.0


def _would(rival: Alternative, step_time_s: float) -> str:
    """What would be different with a rival."""
    effect = rival.effect
    assert effect is not None
    if abs(effect.more_s) <= _NOTHING * step_time_s:
        time = "take as long"
    else:
        what = "cost" if effect.more_s > 0 else "save"
        share = percent_text(abs(effect.more_s) / step_time_s) if step_time_s > 0 else "-"
        time = f"{what} {duration_text(abs(effect.more_s))} ({share})"
    if effect.over_bytes > 0:
        memory = f"exceed the budget by {bytes_text(effect.over_bytes)}"
        joint = "and" if effect.more_s > _NOTHING * step_time_s else "but"
    else:
        memory, joint = _peak_change(effect.more_bytes), "and"
    name = {"keep": "Keeping it", "recompute": "Recomputing it", "offload": "Offloading it"}
    return f"{name.get(rival.family, rival.name.capitalize())} would {time} {joint} {memory}."


def _peak_change(more_bytes: int) -> str:
    if more_bytes == 0:
        return "leave the peak as it is"
    return f"{'raise' if more_bytes > 0 else 'lower'} the peak by {bytes_text(abs(more_bytes))}"


def _by_price(taken: Alternative, rivals: list[Alternative]) -> str:
    """What is paid for a byte that is freed, where no rival was simulated."""
    kept = next((rival for rival in rivals if rival.family == "keep"), None)
    if taken.family == "keep" or kept is None:
        freeing = [r for r in rivals if r.held_bytes < taken.held_bytes]
        cheapest = min(freeing, key=lambda r: r.time_s + r.copy_s, default=None)
        if cheapest is None:
            return "Nothing else would free memory."
        freed = bytes_text(taken.held_bytes - cheapest.held_bytes)
        return f"To free {freed} would cost {_cost_words(cheapest)} ({cheapest.name})."
    freed = bytes_text(kept.held_bytes - taken.held_bytes)
    return f"Frees {freed} for {_cost_words(taken)}."


def _cost_words(alternative: Alternative) -> str:
    parts = []
    if alternative.time_s > 0 or not alternative.copy_s:
        parts.append(f"{duration_text(alternative.time_s)} of compute")
    if alternative.copy_s:
        parts.append(f"{duration_text(alternative.copy_s)} of copies")
    return " and ".join(parts)
