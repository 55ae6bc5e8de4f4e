"""Where a training by imitation stands, in a file that can run no code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from remora.errors import FileFormatError
from remora.report.files import write_bytes

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(
    path: Path, identity: str, epochs: int, network: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    """Write it, whole or not at all.

    Args:
        path: of the file.
        identity: hash of what the training learns from and of its values.
        epochs: how many are done.
        network: its state.
        optimizer: its state.

    Raises:
        UsageError: it cannot be written.
    """
    buffer = io.BytesIO()
    values = {
        "identity": identity,
        "epochs": epochs,
        "network": network,
        "optimizer": optimizer,
    }
    torch.save(values, buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path, identity: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the number of epochs that are done, and the states of network and optimizer.

    Raises:
        FileFormatError: there is none, it is broken, or it belongs to another training.
    """
    if not path.is_file():
        raise FileFormatError(f"there is no file {path} to resume from")
    try:
        values = torch.load(path, weights_only=True)
        found, epochs = values["identity"], int(values["epochs"])
        network, optimizer = values["network"], values["optimizer"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"{path} cannot be resumed from: {reason}") from error
    if found != identity:
        raise FileFormatError(
            f"{path} belongs to a training on other demonstrations or with other values; allowed: "
            "to resume with the same ones, or to begin in another folder"
        )
    return epochs, network, optimizer
