from __future__ import annotations

import inspect
from importlib import resources

import pytest
import yaml

from remora.agents.registry import SCHEDULERS, create, scheduler_names, settings_of
from remora.agents.scheduler import Scheduler
from remora.errors import InvalidInputError, UnknownNameError

CONF = resources.files("remora.conf") / "agent"


@pytest.mark.parametrize("name", scheduler_names())
def test_every_scheduler_has_the_one_face_and_its_own_name(name: str) -> None:
    scheduler = create(name)
    assert isinstance(scheduler, Scheduler)
    assert scheduler.name == name


@pytest.mark.parametrize("name", scheduler_names())
def test_configuration_files_hold_the_defaults(name: str) -> None:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert values.pop("name") == name
    assert create(name, **values) is not None
    parameters = inspect.signature(type(create(name))).parameters
    defaults = {key: parameters[key].default for key in settings_of(name)}
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()} == defaults


def test_every_configuration_file_belongs_to_a_scheduler() -> None:
    files = {file.name for file in CONF.iterdir() if file.name.endswith(".yaml")}
    assert files == {f"{name}.yaml" for name in SCHEDULERS}


def test_unknown_scheduler_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'greedy'"):
        create("gredy")


def test_unknown_setting_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'evaluations'"):
        create("local_search", evaluation=3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("local_search", {"evaluations": -1}),
        ("random", {"samples": 0}),
        ("rotor", {"slots": 0}),
        ("best", {"members": ()}),
        ("best", {"evaluations": -5}),
    ],
)
def test_bad_settings_are_refused_by_name(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        create(name, **settings)


def test_best_refuses_itself_as_a_member() -> None:
    with pytest.raises(UnknownNameError, match="member of agent 'best'"):
        create("best", members=("best",))
