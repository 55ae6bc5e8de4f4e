"""Colours must stay apart for people who lack one kind of cone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from remora.report.colours import DARK_COLOURS, INSTRUCTION_STYLES, MEMORY_COLOURS, text_colour
from remora.schedule.program import InstructionKind, MemoryKind

# Machado, Oliveira and Fernandes 2009, severity 1; they act on linear RGB.
VISION = {
    "normal": np.eye(3),
    "no red": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no green": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no blue": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
K = InstructionKind
COMPUTE = (
    K.FORWARD,
    K.RESTORE,
    K.RECOMPUTE,
    K.BACKWARD,
    K.BACKWARD_INPUT,
    K.BACKWARD_WEIGHT,
    K.OPTIMIZER,
)
BESIDE = (K.OFFLOAD, K.PREFETCH, K.SEND, K.RECEIVE, K.GATHER_WEIGHTS)
ONE_ROW = (
    (K.OFFLOAD, K.STORE_GRADIENTS),
    (K.PREFETCH, K.LOAD_WEIGHTS),
    (K.GATHER_WEIGHTS, K.REDUCE_GRADIENTS),
)


def linear_rgb(colour: str) -> np.ndarray:  # [3]
    values = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:  # [3] -> [3]
    """Björn Ottosson's space, in which distances are as large as they look."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ) @ np.clip(rgb, 0, 1)
    matrix = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return matrix @ np.cbrt(cones)


def smallest_distance(colours: Iterable[str]) -> float:
    return min(
        float(np.linalg.norm(oklab(eye @ linear_rgb(a)) - oklab(eye @ linear_rgb(b))))
        for a, b in itertools.combinations(colours, 2)
        for eye in VISION.values()
    )


def test_every_kind_has_a_look_of_its_own() -> None:
    assert set(INSTRUCTION_STYLES) == set(InstructionKind)
    assert set(MEMORY_COLOURS) == set(MemoryKind)
    assert len(set(INSTRUCTION_STYLES.values())) == len(InstructionKind)
    assert len(set(MEMORY_COLOURS.values())) == len(MemoryKind)


def test_the_measure_knows_confusable_colours() -> None:
    assert smallest_distance(("#CC79A7", "#999999")) < 0.03


@pytest.mark.parametrize("kinds", [COMPUTE, BESIDE, *ONE_ROW])
def test_kinds_that_share_rows_stay_apart_for_all_eyes(kinds: tuple[InstructionKind, ...]) -> None:
    assert smallest_distance(INSTRUCTION_STYLES[kind].colour for kind in kinds) > 0.1


@pytest.mark.parametrize("kinds", [BESIDE, tuple(MemoryKind)])
def test_kinds_stay_apart_on_a_dark_ground(kinds: tuple[InstructionKind | MemoryKind, ...]) -> None:
    light = {**{k: s.colour for k, s in INSTRUCTION_STYLES.items()}, **MEMORY_COLOURS}
    assert smallest_distance(DARK_COLOURS.get(kind, light[kind]) for kind in kinds) > 0.1


def test_nothing_is_nearly_black_on_a_dark_ground() -> None:
    dark_ground = "#15181D"
    for colours in ({k: s.colour for k, s in INSTRUCTION_STYLES.items()}, MEMORY_COLOURS):
        for kind, colour in colours.items():
            seen = DARK_COLOURS.get(kind, colour)
            assert np.linalg.norm(oklab(linear_rgb(seen)) - oklab(linear_rgb(dark_ground))) > 0.15


def test_kinds_of_memory_stay_apart_for_all_eyes() -> None:
    assert smallest_distance(MEMORY_COLOURS.values()) > 0.1


def test_text_is_dark_on_light_and_light_on_dark() -> None:
    assert text_colour("#F0E442") == "#000000"
    assert text_colour("#00563F") == "#FFFFFF"
