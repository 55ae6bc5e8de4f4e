from __future__ import annotations

import math
from pathlib import Path

import pytest

from remora.api.bench.fidelity.figures import figures_of, over_seeds
from remora.api.bench.fidelity.points import (
    Judgement,
    StepPoint,
    UnitPoint,
    append_judgements,
    read_judgements,
)
from remora.api.bench.fidelity.tables import fidelity_sections
from remora.errors import FileFormatError


def _step(family: str, subject: str, predicted_s: float, measured_s: float) -> StepPoint:
    return StepPoint(family, subject, predicted_s, measured_s, 100, 110, 105)


def _judgement(seed: int = 0, method: str = "gnn", scale: float = 1.0) -> Judgement:
    return Judgement(
        method=method,
        seed=seed,
        left_out="unet",
        training_s=10.0,
        training_cpu_s=15.0,
        units=(UnitPoint("unet", 1.1 * scale, 1.0), UnitPoint("decoder", 1.0, 1.0)),
        steps=(
            _step("unet", "a", 1.2 * scale, 1.0),
            _step("unet", "a", 2.2 * scale, 2.0),
            _step("unet", "a", 1.5 * scale, 3.0),
            _step("decoder", "b", 1.0, 1.0),
        ),
    )


def test_families_are_told_apart_by_whether_they_were_seen() -> None:
    left_out = figures_of([_judgement()], seen=False)
    assert (left_out.units, left_out.steps) == (1, 3)
    assert left_out.unit_error == pytest.approx(0.1)
    assert left_out.step_error == pytest.approx(0.2)
    # Of three pairs one is in the wrong order.
    assert left_out.tau == pytest.approx(1 / 3)
    assert left_out.peak_error == pytest.approx(1 - 100 / 105)
    assert (left_out.covered, left_out.width) == (1.0, pytest.approx(0.1))
    seen = figures_of([_judgement()], seen=True)
    assert (seen.units, seen.steps, seen.unit_error) == (1, 1, 0.0)
    assert math.isnan(seen.tau)
    assert figures_of([_judgement()], None).units == 2
    assert figures_of([_judgement()], None, "decoder").steps == 1


def test_figures_over_seeds_have_a_spread() -> None:
    both = [_judgement(0), _judgement(1, scale=2.0)]
    over = over_seeds(both, lambda own: figures_of(own, seen=False).unit_error)
    assert (over.least, over.largest) == (pytest.approx(0.1), pytest.approx(1.2))
    assert over.mean == pytest.approx(0.65)


def test_judgements_are_read_back_and_a_cut_line_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out" / "judgements.jsonl"
    judgements = [_judgement(0), _judgement(1)]
    append_judgements(path, judgements)
    assert read_judgements(path) == judgements
    with path.open("a") as file:
        file.write('{"method": "gn')
    assert read_judgements(path) == judgements
    append_judgements(path, [_judgement(2)])
    assert len(read_judgements(path)) == 3
    path.write_text("[]\n")
    with pytest.raises(FileFormatError, match="no judgement"):
        read_judgements(path)


def test_the_tables_name_what_was_asked_and_what_came() -> None:
    judgements = [_judgement(0), _judgement(1), _judgement(0, "roofline", 3.0)]
    headline, methods, families = fidelity_sections(judgements)
    assert headline.rows[0][0] == "unit time, median error"
    assert headline.rows[0][3:] == ("<= 12 %", "10.0%")
    assert "took 15 s of processor time in the median, and 10 s with others" in headline.about
    assert [row[0] for row in methods.rows] == ["gnn", "roofline"]
    assert methods.rows[1][2] == "230.0%"
    assert families.rows[0][:3] == ("unet", "1", "3")
    assert fidelity_sections([]) == []
