"""Policies on disk: safetensors and a JSON card that names a registered network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.envs.actions import KINDS, NUM_ACTIONS, OBSERVATION_VERSION
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS
from remora.envs.graphs import EDGE_COLUMNS, NODE_COLUMNS
from remora.errors import FileFormatError, InvalidInputError, UnknownNameError, UsageError
from remora.schedule.inference import Mode
from remora.tracking.artifacts import load_artifact, save_artifact

__all__ = ["MAX_UNITS", "POLICY_VERSION", "Policy", "load_policy", "save_policy"]

POLICY_VERSION = 1
MAX_UNITS = 512
"""Most units that a policy is meant for, unless it says otherwise."""

_NETWORKS = {"joint_plan": PlanNetwork}


@dataclass(frozen=True)
class Policy:
    """A network, what it is meant for, and where it comes from.

    Attributes:
        network: the weights.
        max_units: most units of a model that it is meant to plan.
        card: where the weights come from and how good they are, as plain JSON values.
        mode: what it learned to plan.
    """

    network: PlanNetwork
    max_units: int = MAX_UNITS
    card: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = Mode.TRAIN

    def check_mode(self, mode: Mode, given: str) -> None:
        """Refuse problems of a mode that the policy never saw.

        Args:
            mode: of the problem.
            given: says which field has which policy.

        Raises:
            InvalidInputError: it is one.
        """
        if mode is not self.mode:
            raise InvalidInputError(
                f"{given}, which has learned mode {self.mode.value!r}; allowed here: a policy that "
                f"was trained on problems of mode {mode.value!r}"
            )

    def check_units(self, num_units: int) -> None:
        """Refuse a model that is larger than what the policy is meant for.

        Raises:
            InvalidInputError: it is.
        """
        if num_units > self.max_units:
            raise InvalidInputError(
                f"the model has {num_units} units; allowed for this policy: up to {self.max_units}"
            )


def save_policy(path: Path, policy: Policy) -> None:
    """Write a policy, whole or not at all.

    Args:
        path: a folder.
        policy: what to write.

    Raises:
        FileFormatError: the card holds ``_target_``.
    """
    head = {
        "policy": "joint_plan",
        "version": POLICY_VERSION,
        "observation_version": OBSERVATION_VERSION,
        "inputs": _inputs(),
        "size": policy.network.size.as_dict(),
        "max_units": policy.max_units,
        "mode": policy.mode.value,
        "card": dict(policy.card),
    }
    save_artifact(path, policy.network.state_dict(), head)


def load_policy(path: Path) -> Policy:
    """Read a policy.

    Returns:
        The policy; its network is ready to decode.

    Raises:
        FileFormatError: a file is missing, damaged, of another version, made for other
            observations or kinds of pipelines, or names code to run.
        UnknownNameError: it names a network that is not there.
    """
    tensors, head = load_artifact(path)
    _check_versions(path, head)
    name = str(head.get("policy"))
    if name not in _NETWORKS:
        raise UnknownNameError("policy network", name, _NETWORKS)
    max_units = head.get("max_units")
    if not isinstance(max_units, int) or isinstance(max_units, bool) or max_units < 1:
        raise FileFormatError(f"{path} has max_units={max_units!r}; allowed: 1 or more")
    mode = head.get("mode", Mode.TRAIN.value)
    if mode not in list(Mode):
        allowed = ", ".join(one.value for one in Mode)
        raise FileFormatError(f"{path} has mode={mode!r}; allowed: {allowed}")
    size = _size(path, head)
    try:
        network = _NETWORKS[name].of_weights(size, tensors)
    except RuntimeError as error:
        raise FileFormatError(f"{path} holds weights that are not of the size {size}") from error
    card = head.get("card")
    return Policy(network, max_units, card if isinstance(card, dict) else {}, Mode(mode))


def _check_versions(path: Path, head: Mapping[str, Any]) -> None:
    for field_name, allowed in (
        ("version", POLICY_VERSION),
        ("observation_version", OBSERVATION_VERSION),
    ):
        if head.get(field_name) != allowed:
            raise FileFormatError(
                f"{path} has {field_name} {head.get(field_name)!r}; allowed: {allowed}"
            )
    inputs = head.get("inputs")
    stored = inputs if isinstance(inputs, dict) else {}
    for field_name, names in _inputs().items():
        if stored.get(field_name) != names:
            raise FileFormatError(
                f"{path} was trained on other {field_name} than this version has; train it anew"
            )


def _size(path: Path, head: Mapping[str, Any]) -> NetworkSize:
    values = head.get("size")
    try:
        return NetworkSize(**(values if isinstance(values, dict) else {"size": values}))
    except (TypeError, UsageError) as error:
        raise FileFormatError(f"{path} has a network size that is not allowed: {error}") from error


def _inputs() -> dict[str, list[str]]:
    """What the network reads and writes; weights fit no other list."""
    return {
        "kinds": [f"{kind.value} x {chunks}" for kind, chunks in KINDS],
        "nodes": list(NODE_COLUMNS),
        "edges": list(EDGE_COLUMNS),
        "state": list(STATE_COLUMNS),
        "choices": list(CHOICE_COLUMNS),
        "actions": [str(NUM_ACTIONS)],
    }
