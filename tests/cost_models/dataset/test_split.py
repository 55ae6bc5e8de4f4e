"""Who teaches and who judges."""

from __future__ import annotations

import random

import pytest

from remora.cost_models.dataset.families import FAMILIES, family_of
from remora.cost_models.dataset.records import ProfiledRun
from remora.cost_models.dataset.split import hold_out, leave_family_out, leave_hardware_out
from remora.errors import InvalidInputError, UnknownNameError
from tests.cost_models.dataset.runs import run_of, setting


def runs_of(family: str, model: str, count: int, first: int = 0) -> list[ProfiledRun]:
    """Runs of sizes that have no unit in common."""
    return [
        run_of(family, model, size, kinds=(f"{model}{size}a", f"{model}{size}b"))
        for size in range(first, first + count)
    ]


RUNS = [
    *runs_of("decoder", "gpt2", 6),
    *runs_of("decoder", "llama", 4),
    *runs_of("convnet", "resnet", 5),
    *runs_of("calibration", "calibration", 8),
]


def keys(runs: tuple[ProfiledRun, ...]) -> set[str]:
    return {run.subject.key for run in runs}


def test_a_family_is_left_out_as_a_whole() -> None:
    teaching, judging = leave_family_out(RUNS, "decoder")
    assert {run.subject.model for run in judging} == {"gpt2", "llama"}
    assert {run.subject.family for run in teaching} == {"convnet", "calibration"}
    assert len(teaching) + len(judging) == len(RUNS)
    assert all(run in RUNS for run in (*teaching, *judging))


def test_a_kind_of_unit_that_judges_does_not_teach() -> None:
    shared = run_of("convnet", "resnet", 50, kinds=("gpt20a", "own"))
    teaching, judging = leave_family_out([*RUNS, shared], "decoder")
    (without,) = (run for run in teaching if run.subject.key == shared.subject.key)
    assert [row.kind for row in without.units] == ["own"]
    assert without.steps == shared.steps
    assert "gpt20a" in {row.kind for run in judging for row in run.units}


def test_families_that_cannot_be_left_out_are_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown family 'decodr': did you mean 'decoder'"):
        leave_family_out(RUNS, "decodr")
    with pytest.raises(UnknownNameError, match="allowed: convnet, decoder"):
        leave_family_out(RUNS, "calibration")
    few = [*RUNS, *runs_of("encoder", "vit", 2)]
    with pytest.raises(InvalidInputError, match="family 'encoder' has 2 graphs, allowed: 3"):
        leave_family_out(few, "encoder")
    with pytest.raises(InvalidInputError, match="everything but family 'decoder' has 0 graphs"):
        leave_family_out(RUNS[:10], "decoder")


def test_a_share_of_every_family_is_held_out() -> None:
    teaching, judging = hold_out(RUNS, 0.3, seed=1)
    held = [run.subject.family for run in judging]
    assert (held.count("decoder"), held.count("convnet"), held.count("calibration")) == (3, 2, 0)
    assert not keys(teaching) & keys(judging)
    assert len(teaching) + len(judging) == len(RUNS)


def test_the_choice_depends_on_the_seed_alone() -> None:
    mixed = random.Random(0).sample(RUNS, len(RUNS))
    choices = [keys(hold_out(runs, 0.3, seed)[1]) for seed in (1, 2) for runs in (RUNS, mixed)]
    assert choices[0] == choices[1]
    assert choices[2] == choices[3]
    assert choices[0] != choices[2]


def test_a_subject_is_on_one_side_in_all_settings() -> None:
    elsewhere = [run_of("decoder", "gpt2", size, setting=setting(threads=2)) for size in range(6)]
    teaching, judging = hold_out([*RUNS, *elsewhere], 0.5, seed=0)
    assert not keys(teaching) & keys(judging)


def test_a_family_too_small_to_hold_something_out() -> None:
    few = [*RUNS, *runs_of("own", "mine", 1)]
    with pytest.raises(InvalidInputError, match="family 'own' has 1 graphs, allowed: 3 or more"):
        hold_out(few, 0.3, seed=0)
    teaching, judging = hold_out(few, 0.3, seed=0, least=1)
    assert "own" in {run.subject.family for run in teaching}
    assert "own" not in {run.subject.family for run in judging}


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(InvalidInputError, match="allowed: above 0 and below 1"):
        hold_out(RUNS, share, seed=0)


def test_hardware_is_left_out_with_units_that_others_have_too() -> None:
    there = [run_of("decoder", "gpt2", size, setting=setting("gpu")) for size in range(3)]
    here = [run_of("decoder", "gpt2", size) for size in range(3)]
    teaching, judging = leave_hardware_out([*here, *there], "gpu/1")
    assert (list(teaching), list(judging)) == (here, there)
    with pytest.raises(UnknownNameError, match="unknown hardware 'gpu'"):
        leave_hardware_out(here, "gpu")
    with pytest.raises(InvalidInputError, match="hardware 'gpu/1' has 2 graphs"):
        leave_hardware_out([*here, *there[:2]], "gpu/1")


def test_families_of_architectures() -> None:
    assert family_of("remora.zoo.llama:llama") == "decoder"
    assert family_of("remora.zoo.calibration:calibration") == "calibration"
    assert family_of("remora.zoo.new:new") == "other"
    assert family_of("mine.models:llama") == "other"
    assert len(set(FAMILIES.values())) == 8
