"""What figures depend on: device, versions, date.

PyTorch is asked in a process of its own, since asking CUDA takes memory on the device: run as
``python -m benchmarks.gpu_campaign.machine`` it prints JSON.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from remora.errors import InvalidInputError, ModelRunError, UnknownNameError

__all__ = ["about_machine", "main"]

_DEVICES = ("cuda", "cpu")


def about_machine(device: str, command: str) -> tuple[str, dict[str, Any]]:
    """Return the kind of device to use, and what is to be told of it.

    Args:
        device: ``cuda``, ``cpu``, or empty for CUDA where it is there.
        command: that was given.

    Raises:
        UnknownNameError: another device.
        InvalidInputError: CUDA, and PyTorch finds none.
        ModelRunError: PyTorch could not be asked.
    """
    if device and device not in _DEVICES:
        raise UnknownNameError("device", device, _DEVICES)
    asked = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [""])[-1]
        raise ModelRunError(f"PyTorch could not be asked for its devices: {last}")
    found = json.loads(asked.stdout)
    name = found.pop("cuda_device")
    if device == "cuda" and not name:
        raise InvalidInputError("device is 'cuda', and PyTorch finds none; allowed here: cpu")
    kind = device or ("cuda" if name else "cpu")
    return kind, {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "device": name if kind == "cuda" else f"cpu {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "seconds": 0.0,
        **found,
    }


def main() -> None:
    """Print what PyTorch knows."""
    import torch

    there = torch.cuda.is_available()
    properties = torch.cuda.get_device_properties(0) if there else None
    values = {
        "cuda_device": properties.name if properties else "",
        "memory_bytes": properties.total_memory if properties else 0,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda or "",
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
