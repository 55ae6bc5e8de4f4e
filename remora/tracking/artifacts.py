"""Trained weights on disk: tensors as safetensors, everything else as JSON, no code."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remora.errors import FileFormatError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CARD_NAME", "WEIGHTS_NAME", "load_artifact", "refuse_targets", "save_artifact"]

WEIGHTS_NAME = "weights.safetensors"
CARD_NAME = "card.json"
_FORBIDDEN_KEY = "_target_"

_PLAIN = (str, int, float, type(None))
"""Most values of a large file, in which nothing can stand."""


def save_artifact(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a folder with ``weights.safetensors`` and ``card.json``, whole or not at all.

    Args:
        path: the folder; an older artifact there is replaced.
        tensors: weights by name, of any shape.
        metadata: plain JSON values; names what the weights belong to.

    Raises:
        FileFormatError: the metadata hold the key ``_target_``.
    """
    from safetensors.torch import save

    refuse_targets(metadata, str(path))
    # Tied weights share a storage, which the format does not allow.
    weights = save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})
    card = json.dumps(dict(metadata), indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        (staging / WEIGHTS_NAME).write_bytes(weights)
        (staging / CARD_NAME).write_text(card, encoding="utf-8")
        staging.chmod(0o755)
        _replace_folder(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_artifact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_artifact` wrote; nothing in the files can run code.

    Args:
        path: the folder.

    Returns:
        The tensors by name, on the CPU, and the metadata.

    Raises:
        FileFormatError: a file is missing, cut short or garbled, or the card holds ``_target_``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card_path, weights_path = path / CARD_NAME, path / WEIGHTS_NAME
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        weights = weights_path.read_bytes()
    except FileNotFoundError as error:
        raise FileFormatError(f"there is no file {error.filename}") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{card_path} is cut short or no JSON: {error}") from error
    if not isinstance(card, dict):
        raise FileFormatError(f"{card_path} holds no JSON object")
    refuse_targets(card, str(card_path))
    try:
        return load(weights), card
    except SafetensorError as error:
        raise FileFormatError(f"{weights_path} is cut short or garbled: {error}") from error


def refuse_targets(values: Any, where: str) -> None:
    """Refuse a key ``_target_`` at any depth: it would name code to run.

    Args:
        values: JSON values.
        where: the file or folder, for the message.

    Raises:
        FileFormatError: there is such a key.
    """
    if isinstance(values, Mapping):
        if _FORBIDDEN_KEY in values:
            raise FileFormatError(f"{where} holds the key {_FORBIDDEN_KEY!r}, which is not allowed")
        inner: Collection[Any] = values.values()
    elif isinstance(values, list | tuple):
        inner = values
    else:
        return
    for value in inner:
        if not isinstance(value, _PLAIN):
            refuse_targets(value, where)


def _replace_folder(staging: Path, path: Path) -> None:
    if not path.exists():
        os.replace(staging, path)
        return
    # A folder cannot be renamed over another one that holds files.
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    os.replace(path, old / "artifact")
    try:
        os.replace(staging, path)
    except BaseException:
        os.replace(old / "artifact", path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
