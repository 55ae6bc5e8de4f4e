"""Peers on a model that takes a moment: what they save, that they are exact, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from remora.api.bench.peers import run as peers
from remora.api.bench.peers.checkpoints import PEERS, Subject, blocks_of
from remora.api.bench.peers.measuring import PeerRow, Point, measured_peers, problem_of
from remora.api.bench.peers.problems import our_curve, solver_rows
from remora.errors import InvalidInputError, UnknownNameError
from remora.executor.compare import gradient_distance, run_once
from remora.zoo import Example
from tests.api.small_models import make_stack

EAGER = tuple(peer for peer in PEERS if not peer.compiles)
SAC = next(peer for peer in PEERS if peer.name == "sac_ilp")


def example() -> Example:
    torch.manual_seed(0)
    return Example(*make_stack(), None)


@pytest.mark.parametrize("peer", EAGER, ids=lambda peer: peer.name)
def test_a_peer_keeps_the_gradients(peer: object) -> None:
    if peer is SAC:
        pytest.importorskip("pulp")
    one = example()
    problem = problem_of(one, "stack", "roofline")
    subject = Subject(one.model, problem.graph, problem.cost)
    plain = run_once(one.model, one.example_inputs, None, 0)
    one.model.zero_grad(set_to_none=True)
    with peer.in_effect(subject, 0.5) as runner:  # type: ignore[attr-defined]
        found = run_once(runner, one.example_inputs, None, 0)
    assert gradient_distance(plain, found) == 0.0
    assert not any("forward" in vars(module) for module in one.model.modules())


def test_every_peer_stands_beside_a_plan_within_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    from remora.api.bench.peers import measuring

    monkeypatch.setattr(measuring, "PEERS", EAGER)
    one = example()
    rows = measured_peers("stack", one, problem_of(one, "stack", "roofline"), 2, 0.5)
    found = {(row.peer, row.setting): row for row in rows}
    full = found["full checkpointing", None]
    assert full.theirs.peak_bytes is not None
    assert full.ours.peak_bytes is not None
    assert full.theirs.peak_bytes < (found["nothing", None].theirs.peak_bytes or 0)
    assert full.ours.peak_bytes <= full.theirs.peak_bytes * 1.01
    assert "moves nothing" in found["save_on_cpu", None].theirs.note
    assert not any(parameter.grad is not None for parameter in one.model.parameters())


def test_blocks_are_the_elements_of_the_outermost_lists() -> None:
    assert blocks_of(example().model) == tuple(f"blocks.{index}" for index in range(6))


def test_solvers_answer_within_the_budget_and_peaks_fall_with_it() -> None:
    problem = problem_of(example(), "stack", "roofline")
    rows = solver_rows("stack", problem, (0.5,), 0.5)
    assert {row.solver for row in rows} >= {"rotor", "milp", "best"}
    times = {row.solver: row.step_time_s for row in rows if row.step_time_s is not None}
    assert times["best"] == min(times.values())
    curve = our_curve("stack", problem, (1.0, 0.5, 0.0), 0.5)
    peaks = [row.peak_bytes for row in curve]
    assert peaks == sorted(peaks, reverse=True)
    assert all(row.peak_bytes <= row.budget_bytes for row in curve)


def test_files_say_why_a_figure_is_missing(tmp_path: Path) -> None:
    request = peers.PeersRequest(("gpt2_tiny",), (0.5,), 1.0, 2, "roofline", tmp_path, "remora")
    none = Point(note="it moves nothing")
    done = Point(1.0, 2**20, 0.5)
    row = PeerRow("m", "p", 0.5, 1.0, none, none)
    plain = PeerRow("m", "nothing", None, 1.0, done, done)
    peers.write_peers(request, peers.PeersResult((plain, row), (), ()))
    assert "- m, p 0.5: it moves nothing" in (tmp_path / "peers.md").read_text()
    assert json.loads((tmp_path / "peers.json").read_text())["peers"][0]["peer"] == "nothing"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": ("gpt3_tiny",)}, UnknownNameError, "gpt3_tiny"),
        ({"ranges": (1.5,)}, InvalidInputError, "ranges has 1.5; allowed: from 0 to 1"),
        ({"repetitions": 0}, InvalidInputError, "repetitions is 0; allowed: above 0"),
    ],
)
def test_a_bad_value_is_refused(
    change: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    values = {"models": ("gpt2_tiny",), "ranges": (0.5,), "time_limit_s": 1.0, "repetitions": 2}
    with pytest.raises(error, match=message):
        peers.PeersRequest(**{**values, **change}, cost_model="roofline", out=tmp_path)  # type: ignore[arg-type]
