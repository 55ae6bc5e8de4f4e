"""Labels: what a long search finds is written, read and built again."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from remora.agents.evaluation import score_of
from remora.agents.heuristics.shapes import shapes_of
from remora.agents.learned.labels.label import label_path, read_label, read_labels
from remora.agents.learned.labels.making import SearchTimes, make_labels
from remora.agents.registry import create
from remora.envs.drawing import ProblemSpec
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from tests.problems import cpu_hardware, toy_graph

FAST = SearchTimes(one_device_s=0.2, pipeline_s=1.5)
FASTEST = SearchTimes(one_device_s=0.1, pipeline_s=0.1)
SPEC = ProblemSpec(
    name="toy-p4",
    model="toy",
    values={"batch": 64},
    spread=0.4,
    model_seed=1,
    hardware="test",
    free_memory_share=0.9,
    host_link_share=0.5,
    link_share=0.5,
    optimizer="adamw",
    world_size=4,
    micro_batches=8,
    range=0.3,
)
ALONE = dataclasses.replace(SPEC, name="toy-p1", world_size=1, micro_batches=None, spread=0.0)
TOO_MANY = dataclasses.replace(SPEC, name="toy-p64", world_size=64)
SPECS = (SPEC, ALONE, TOO_MANY)


def source(spec: ProblemSpec) -> tuple[Mapping[int, ModelGraph], Hardware]:
    """Two blocks of every size; graphs of fewer samples where there are micro-batches."""
    sizes = (256, 64, 128, 32, 256, 64)
    counts = (1,) if spec.micro_batches is None else (1, spec.micro_batches)
    graphs = {count: toy_graph(sizes, batch=64 // count) for count in counts}
    return graphs, cpu_hardware(device_type="cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the problems that can be built."""
    path = tmp_path_factory.mktemp("labels")
    make_labels(path, SPECS, source, FAST)
    return path


def test_labels_hold_the_best_of_every_shape_and_simulate_alike(folder: Path) -> None:
    alone, pipeline = read_labels(folder)
    assert (alone.spec, pipeline.spec) == (ALONE, SPEC)
    problem = pipeline.problem
    assert problem.budget_bytes == pipeline.budget_bytes
    assert {plan.shape for plan in pipeline.plans} == set(shapes_of(problem))
    with_plan = [plan for plan in pipeline.plans if plan.schedule is not None]
    assert len(with_plan) > 1
    for plan in with_plan:
        assert plan.schedule is not None
        score = score_of(problem, plan.schedule)
        assert score.feasible
        assert score.step_time_s == pytest.approx(plan.step_time_s)
    times = [plan.step_time_s for plan in with_plan if plan.step_time_s is not None]
    assert times == sorted(times)
    assert pipeline.best_s == times[0] <= pipeline.greedy_s
    assert score_of(problem, pipeline.greedy).step_time_s == pytest.approx(pipeline.greedy_s)


def test_a_label_is_not_worse_than_the_schedulers_it_is_made_with(folder: Path) -> None:
    for label in read_labels(folder):
        problem = label.problem
        for name in ("rank_greedy", "floor"):
            plan = create(name).propose(problem, 5.0)
            assert label.best_s <= score_of(problem, plan).step_time_s * (1 + 1e-9)


def test_regret_is_the_logarithm_of_the_ratio(folder: Path) -> None:
    label = read_labels(folder)[1]
    assert label.regret(label.plans[0]) == 0.0
    second = dataclasses.replace(label.plans[0], step_time_s=2 * label.best_s)
    assert label.regret(second) == pytest.approx(math.log(2))
    nothing = dataclasses.replace(second, step_time_s=None, schedule=None)
    assert label.regret(nothing) == math.inf


def test_what_cannot_be_built_is_noted_and_what_is_there_is_not_made_again(folder: Path) -> None:
    note = json.loads((folder / "skipped" / "toy-p64.json").read_text())
    assert "world_size is 64" in note["reason"]
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}

    def refuse(spec: ProblemSpec) -> tuple[Mapping[int, ModelGraph], Hardware]:
        raise AssertionError(f"{spec.name} is made again")

    make_labels(folder, SPECS, refuse, FAST)
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_a_call_goes_on_where_another_one_was_killed(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(name: str, done: int, total: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        make_labels(tmp_path, (ALONE, SPEC), source, FASTEST, listener=kill)
    assert [label.name for label in read_labels(tmp_path)] == ["toy-p1"]
    told: list[tuple[str, int, int]] = []
    make_labels(
        tmp_path, (ALONE, SPEC), source, FASTEST, listener=lambda *values: told.append(values)
    )
    assert told == [("toy-p4", 2, 2)]
    assert len(read_labels(tmp_path)) == 2


@pytest.mark.slow
def test_several_processes_make_the_same_labels(tmp_path: Path) -> None:
    make_labels(tmp_path, SPECS, source, FAST, workers=2)
    assert [label.name for label in read_labels(tmp_path)] == ["toy-p1", "toy-p4"]


def test_bad_files_and_values_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="holds no labels"):
        read_labels(tmp_path)
    path = label_path(folder, "toy-p1")
    values = json.loads(gzip.decompress(path.read_bytes()))
    broken = label_path(tmp_path, "toy-p1")
    broken.parent.mkdir()
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match="is no complete label"):
        read_label(broken)
    broken.write_bytes(gzip.compress(json.dumps({**values, "version": 9}).encode()))
    with pytest.raises(FileFormatError, match="is 9; allowed: 1"):
        read_label(broken)
    del values["plans"]
    broken.write_bytes(gzip.compress(json.dumps(values).encode()))
    with pytest.raises(FileFormatError, match="lacks or garbles a field: 'plans'"):
        read_label(broken)
    broken.write_bytes(path.read_bytes())
    with pytest.raises(FileFormatError, match="cannot be read"):
        _ = read_label(broken).problem
    with pytest.raises(InvalidInputError, match="workers is 0; allowed: 1 or more"):
        make_labels(tmp_path, SPECS, source, FAST, workers=0)
    with pytest.raises(InvalidInputError, match="pipeline_s is 0; allowed: seconds above 0"):
        SearchTimes(1.0, 0)
