"""Where a training of operator networks stands, in a file that can run no code."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from remora.errors import FileFormatError
from remora.report.files import write_bytes

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(
    path: Path, identity: str, epochs: int, states: Sequence[Mapping[str, Any]]
) -> None:
    """Write the states of all members, whole or not at all.

    Args:
        path: of the file.
        identity: hash of data and configuration.
        epochs: how many are done.
        states: of networks and optimizers.
    """
    buffer = io.BytesIO()
    values = {"identity": identity, "epochs": epochs, "states": list(map(dict, states))}
    torch.save(values, buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path, identity: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of epochs that are done, and the states.

    Raises:
        FileFormatError: the file is broken or belongs to another training.
    """
    try:
        values = torch.load(path, weights_only=True)
        found, epochs, states = values["identity"], values["epochs"], values["states"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"the checkpoint {path} cannot be read: {reason}") from error
    if found != identity:
        raise FileFormatError(
            f"the checkpoint {path} belongs to a training on other data or with another "
            "configuration; delete it to begin anew"
        )
    return epochs, states
