"""Files to go on from with a training, between two rollouts: tensors and plain values, no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO

from remora.agents.learned.vec_env import JointVecEnv, VecEnvState
from remora.errors import FileFormatError

__all__ = ["load_checkpoint", "save_checkpoint"]

VERSION = 2


def save_checkpoint(path: Path, model: MaskablePPO, decisive: Mapping[str, Any]) -> None:
    """Write everything that decides how a training goes on, whole or not at all.

    Args:
        path: the file.
        model: between two rollouts.
        decisive: plain JSON values that must be the same when training goes on.
    """
    env = model.get_env()
    assert isinstance(env, JointVecEnv)
    state = env.get_state()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    plain = {
        "version": VERSION,
        "decisive": dict(decisive),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "generators": state.generators,
        "numpy": _listed(numpy_state),
    }
    values = {
        # Generator states hold integers of 128 bits, which only text keeps.
        "plain": json.dumps(plain),
        "weights": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "episodes": [torch.from_numpy(values) for values in state.episodes],
        "owed": torch.from_numpy(state.owed),
        "starts": torch.from_numpy(np.asarray(model._last_episode_starts, dtype=np.bool_)),
    }
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(values, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, model: MaskablePPO, decisive: Mapping[str, Any]) -> None:
    """Bring a new model, its environment and all generators to where a file was written.

    Args:
        path: the file.
        model: made from the same values.
        decisive: those values.

    Raises:
        FileFormatError: the file is cut short, of another version, or of a run with other values.
    """
    values = _read(path)
    plain = json.loads(values["plain"])
    if plain.get("version") != VERSION:
        raise FileFormatError(f"{path} has version {plain.get('version')!r}; allowed: {VERSION}")
    _check_same(path, plain["decisive"], json.loads(json.dumps(dict(decisive))))
    model.policy.load_state_dict(values["weights"])
    model.policy.optimizer.load_state_dict(values["optimizer"])
    model.num_timesteps = plain["steps"]
    model._n_updates = plain["updates"]
    env = model.get_env()
    assert isinstance(env, JointVecEnv)
    episodes = [tensor.numpy() for tensor in values["episodes"]]
    try:
        owed = values["owed"].numpy()
        shown = env.set_state(VecEnvState(episodes, plain["generators"], owed))
    except ValueError as error:
        raise FileFormatError(f"{path} belongs to a run on other problems") from error
    model._last_obs = shown
    model._last_episode_starts = values["starts"].numpy()
    torch.set_rng_state(values["torch"])
    np.random.set_state(_arrayed(plain["numpy"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are cut short
        raise FileFormatError(f"{path} is cut short or no checkpoint") from error
    return values


def _check_same(path: Path, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name in sorted({*stored, *given}):
        if stored.get(name) != given.get(name):
            raise FileFormatError(
                f"{path} belongs to a run with {name}={stored.get(name)}, not {given.get(name)}"
            )


def _listed(state: dict[str, Any]) -> dict[str, Any]:
    inner = {**state["state"], "key": state["state"]["key"].tolist()}
    return {**state, "state": inner}


def _arrayed(state: dict[str, Any]) -> dict[str, Any]:
    inner = {**state["state"], "key": np.array(state["state"]["key"], dtype=np.uint32)}
    return {**state, "state": inner}
