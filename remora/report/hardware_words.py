"""The state of the hardware that was planned for, in words."""

from __future__ import annotations

from remora.hardware.hardware import Hardware
from remora.report.wording import bytes_text

__all__ = ["state_sentence"]


def state_sentence(hardware: Hardware, world_size: int = 1) -> str:
    """Say for what free memory and what link rates was planned; empty for hardware as new.

    Args:
        hardware: with its state; the link to the host is named where tensors can move there.
        world_size: ranks; the link between devices is named if there are several.
    """
    state = hardware.state
    if state is None:
        return ""
    words = [
        f"Planned for {bytes_text(state.free_memory_bytes)} free of "
        f"{bytes_text(hardware.memory_bytes)}"
    ]
    if hardware.can_offload:
        words.append(f"host link at {state.host_link_share * 100:.0f} % of nominal")
    if world_size > 1:
        words.append(f"device links at {state.link_share * 100:.0f} % of nominal")
    return ", ".join(words) + "."
