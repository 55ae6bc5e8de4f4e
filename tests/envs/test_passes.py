"""Episodes of passes: every plan fits, no dead ends, bounds hold, and good plans can be reached."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_for_training

from remora.agents.learned.imitation.replay import Replayer
from remora.agents.learned.playing import exact_size
from remora.envs.actions import NUM_ACTIONS, PACES, Phase, Setting
from remora.envs.batch import EpisodeBatch
from remora.envs.joint_env import JointEnv
from remora.envs.observation import JointSize
from remora.envs.passes.tables import PassTables
from remora.envs.sampler import JointSampler
from remora.envs.vector_env import JointVectorEnv
from remora.errors import InvalidInputError
from remora.schedule.validate import validate
from remora.simulator.compiled import simulator_of
from tests.agents.passes.cases import NUM_CASES, every_schedule, random_case
from tests.envs.problems import tables_of

_SIZE = JointSize(8, 24)


def _tables(seed: int) -> PassTables:
    return PassTables(f"case-{seed}", random_case(seed))


def _budget(tables: PassTables) -> int:
    return max(tables.problem.budget_bytes, tables.least_bytes)


@given(st.integers(0, NUM_CASES - 1), st.integers(0, 2**16), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_random_episodes_fit_end_and_stay_above_their_bounds(
    case: int, seed: int, share: float
) -> None:
    tables, generator = _tables(case), np.random.default_rng(seed)
    budget = tables.budget_bytes(share)
    batch = EpisodeBatch(JointSampler([tables]), 4, _SIZE)
    for place in range(4):
        batch.begin(place, 0, budget)
    bounds, rewards = [batch.bounds_s], np.zeros(4)
    while batch.masks.any():
        drawn = (generator.random(batch.masks.shape) * batch.masks).argmax(axis=1)
        outcome = batch.step(drawn)
        assert not outcome.replaced.any()
        bounds.append(batch.bounds_s)
        rewards += outcome.rewards
        assert (bounds[-1] >= bounds[-2]).all()
    host = tables.problem.hardware.host.memory_bytes
    for place in range(4):
        assert batch.phase(place) is Phase.DONE
        plan = batch.schedule(place)
        validate(tables.problem, plan)
        figures = simulator_of(tables.problem).figures(plan)
        assert figures.max_peak_bytes <= budget
        assert max(figures.host_peak_bytes) <= host
        assert bounds[-1][place] <= figures.step_time_s * (1 + 1e-9)
        gain = -math.log(figures.step_time_s / tables.keep_all_s)
        assert rewards[place] == pytest.approx(gain)


@pytest.mark.parametrize("case", range(NUM_CASES))
def test_the_fastest_plan_of_all_is_an_episode(case: int) -> None:
    tables = _tables(case)
    problem, simulator = tables.problem, simulator_of(tables.problem)
    paces = {(window, distance) for window, distance in PACES}
    plans = [
        plan
        for plan in every_schedule(problem)
        if (plan.memory.offload_window, plan.memory.prefetch_distance) in paces
    ]
    fitting = [
        (figures.step_time_s, place)
        for place, figures in enumerate(simulator.batch(plans))
        if figures.max_peak_bytes <= problem.budget_bytes
        and max(figures.host_peak_bytes) <= problem.hardware.host.memory_bytes
    ]
    fastest_s, place = min(fitting)
    replay = Replayer(tables, problem.budget_bytes).replay(plans[place])
    assert replay is not None
    assert replay.step_time_s <= fastest_s * (1 + 1e-9)


def test_an_action_is_allowed_if_and_only_if_the_plan_it_leads_to_fits() -> None:
    tables = _tables(1)
    budget = _budget(tables)
    batch = EpisodeBatch(JointSampler([tables]), 1, _SIZE)
    batch.begin(0, 0, budget)
    forbidden = 0
    while batch.masks.any():
        for action in np.flatnonzero(batch.masks[0]).tolist():
            ahead = EpisodeBatch(JointSampler([tables]), 1, _SIZE)
            ahead.adopt(0, batch.snapshot())
            assert not ahead.step(np.array([action])).replaced[0]
            while ahead.masks.any():
                ahead.step(np.array([ahead.fallback(0)]))
            figures = simulator_of(tables.problem).figures(ahead.schedule(0))
            assert figures.max_peak_bytes <= budget
        if batch.phase(0) is Phase.UNITS:
            left = _left_on_the_host(tables, batch.setting(0), batch.decisions(0))
            for decision in tables.menus[len(batch.decisions(0))]:
                if not batch.masks[0, decision]:
                    assert left(decision) > budget
                    forbidden += 1
        batch.step(np.array([int(np.flatnonzero(batch.masks[0])[0])]))
    assert forbidden > 0


def _left_on_the_host(
    tables: PassTables, setting: Setting, decisions: tuple[int, ...]
) -> Callable[[int], int]:
    """The peak of one more decision on one rank, everything after it on the host."""
    everything = [menu[-1] for menu in tables.menus]

    def peak_bytes(decision: int) -> int:
        row = [*decisions, decision, *everything[len(decisions) + 1 :]]
        return simulator_of(tables.problem).figures(tables.schedule(setting, row)).max_peak_bytes

    return peak_bytes


def test_where_the_link_carries_nothing_all_stays() -> None:
    known = random_case(1)
    host = dataclasses.replace(known.hardware.host, h2d_bytes_per_s=0.0)
    hardware = dataclasses.replace(known.hardware, host=host)
    tables = PassTables("cut off", dataclasses.replace(known, hardware=hardware))
    assert all(menu == (0,) for menu in tables.menus)
    batch = EpisodeBatch(JointSampler([tables]), 1, _SIZE)
    batch.begin(0, 0, tables.keep_all_bytes)
    while batch.masks.any():
        batch.step(np.array([batch.fallback(0)]))
    assert np.isfinite(batch.bounds_s).all()
    assert batch.bounds_s[0] <= batch.step_time_s(0) * (1 + 1e-9)


def test_stages_go_by_the_same_ends_once_an_episode_has_come_there() -> None:
    tables = next(one for case in range(NUM_CASES) if (one := _tables(case)).rank_choices[0] == 3)
    for start in range(tables.num_units - 3):
        first, *rest = tables.ends(0, start, 3)
        assert start < first
        assert tuple(rest) == tables.ends(0, first, 2)


def test_a_masked_action_is_replaced_by_what_leaves_most_memory() -> None:
    tables = _tables(0)
    batch = EpisodeBatch(JointSampler([tables]), 1, _SIZE)
    batch.begin(0, 0, _budget(tables))
    while batch.phase(0) is not Phase.UNITS:
        batch.step(np.array([batch.fallback(0)]))
    assert batch.step(np.array([NUM_ACTIONS - 1])).replaced[0]
    assert batch.decisions(0)[0] in tables.menus[0]


def test_where_nothing_can_wait_only_keeping_is_left() -> None:
    problem = dataclasses.replace(random_case(1), state_on_device=True)
    tables = PassTables("still", problem)
    assert len(tables.paces) == 1
    assert all(menu == (0,) for menu in tables.menus)


def test_a_host_that_is_too_small_leaves_no_budget_for_an_episode() -> None:
    known = random_case(1)
    host = dataclasses.replace(known.hardware.host, memory_bytes=1)
    hardware = dataclasses.replace(known.hardware, host=host)
    tables = PassTables("narrow", dataclasses.replace(known, hardware=hardware))
    batch = EpisodeBatch(JointSampler([tables]), 1, _SIZE)
    with pytest.raises(InvalidInputError, match="allowed for 'narrow': at least"):
        batch.begin(0, 0, known.budget_bytes)


def test_steps_and_passes_do_not_go_into_one_sampler() -> None:
    with pytest.raises(InvalidInputError, match="modes inference, train; allowed: all of one mode"):
        JointSampler([_tables(0), tables_of("toy")])
    with pytest.raises(InvalidInputError, match="mode 'train'; allowed: 'inference'"):
        PassTables("step", tables_of("toy").problem)


@pytest.mark.filterwarnings("error")
def test_the_environments_pass_the_checkers_and_agree() -> None:
    sampler = JointSampler([_tables(0), _tables(1)])
    env = JointEnv(sampler, _SIZE, render_mode="ansi")
    check_env(env, skip_render_check=True)
    check_env_for_training(env)
    many = JointVectorEnv(sampler, 2, _SIZE)
    shown, _ = many.reset(seed=7)
    alone, _ = env.reset(seed=7)
    generator = np.random.default_rng(0)
    for _ in range(12):
        assert all((shown[name][0] == alone[name]).all() for name in alone)
        masks = many.action_masks()
        actions = (generator.random(masks.shape) * masks).argmax(axis=1)
        alone, reward, ended, _, info = env.step(np.int64(actions[0]))
        shown, rewards, over, _, infos = many.step(actions)
        assert (reward, ended) == (rewards[0], over[0])
        if ended:
            assert info["schedule"] == infos["final_info"][0]["schedule"]
            break
    else:
        pytest.fail("the episode does not end")


def test_the_graph_of_a_pass_says_what_weights_and_caches_take() -> None:
    tables = _tables(1)
    assert exact_size([tables]).max_units == tables.num_units
    nodes = tables.unit_graph.nodes
    assert np.isfinite(nodes).all()
    moving = [len(menu) > 1 for menu in tables.menus]
    assert (nodes[:, 14] == [float(not one) for one in moving]).all()
