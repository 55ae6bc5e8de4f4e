"""Policies on disk: safetensors and a JSON card that names a registered network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remora.agents.learned.network import NetworkSize, PlanNetwork
from remora.envs.actions import UnitAction
from remora.envs.features import (
    CHOICE_FEATURES,
    EDGE_FEATURES,
    NODE_FEATURES,
    STATE_FEATURES,
)
from remora.errors import FileFormatError, UnknownNameError
from remora.tracking.artifacts import load_artifact, save_artifact

__all__ = ["POLICY_VERSION", "load_policy", "pretrained_names", "pretrained_path", "save_policy"]

POLICY_VERSION = 1
NETWORK_NAME = "unit_graph_pointer"
_NETWORKS = {NETWORK_NAME: PlanNetwork}
_PRETRAINED = Path(__file__).parent / "pretrained"


def save_policy(path: Path, network: PlanNetwork, card: Mapping[str, Any]) -> None:
    """Write a policy, whole or not at all.

    Args:
        path: a folder.
        network: the weights.
        card: where they come from and how good they are, as plain JSON values.

    Raises:
        FileFormatError: the card holds ``_target_``.
    """
    head = {
        "policy": NETWORK_NAME,
        "version": POLICY_VERSION,
        "size": network.size.as_dict(),
        "inputs": _inputs(),
    }
    save_artifact(path, network.state_dict(), {**head, "card": dict(card)})


def load_policy(path: Path) -> tuple[PlanNetwork, dict[str, Any]]:
    """Read a policy.

    Returns:
        The network, ready to decode, and its card.

    Raises:
        FileFormatError: a file is missing, damaged, newer than this version, made for other
            observations, or names code to run.
    """
    tensors, head = load_artifact(path)
    if not isinstance(head.get("version"), int) or head["version"] > POLICY_VERSION:
        raise FileFormatError(
            f"{path} has version {head.get('version')!r}; allowed: up to {POLICY_VERSION}"
        )
    name = str(head.get("policy"))
    if name not in _NETWORKS:
        raise UnknownNameError("policy network", name, _NETWORKS)
    if head.get("inputs") != _inputs():
        raise FileFormatError(f"{path} was trained on other observations; train it anew")
    try:
        network = _NETWORKS[name](NetworkSize(**head["size"]))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"{path} holds weights of another size: {error}") from error
    return network.eval(), dict(head.get("card", {}))


def pretrained_names() -> tuple[str, ...]:
    """Names of the policies that ship with the package."""
    if not _PRETRAINED.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in _PRETRAINED.glob("*/card.json")))


def pretrained_path(name: str) -> Path:
    """Folder of a policy that ships with the package.

    Raises:
        UnknownNameError: none has that name.
    """
    if name not in pretrained_names():
        raise UnknownNameError("pretrained policy", name, pretrained_names())
    return _PRETRAINED / name


def _inputs() -> dict[str, list[str]]:
    """What the network reads and writes; weights fit no other list."""
    return {
        "nodes": list(NODE_FEATURES),
        "edges": list(EDGE_FEATURES),
        "state": list(STATE_FEATURES),
        "choices": list(CHOICE_FEATURES),
        "actions": [action.name for action in UnitAction],
    }
