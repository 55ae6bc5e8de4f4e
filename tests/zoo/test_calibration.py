"""Random networks for calibration: shapes, determinism, coverage, tracing and replay."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from remora.executor.replay.units import measure_units
from remora.graph.loss import call_model, resolve_loss
from remora.graph.trace import trace
from remora.zoo import Example, build_target
from remora.zoo.calibration import calibration
from remora.zoo.calibration.activations import ACTIVATIONS, Activation
from remora.zoo.calibration.catalogue import BLOCKS, without_complex
from remora.zoo.calibration.network import Layer, Network
from remora.zoo.precision import cast_parameters

SIZES = {
    "sequence": {"width": 12, "length": 11, "batch": 2},
    "image": {"width": 6, "length": 9, "batch": 2},
}
KINDS = tuple(SIZES)


def build_small(seed: int, kind: str, blocks: int = 3, dtype: str = "float32") -> Example:
    torch.manual_seed(seed)
    return calibration(seed, kind, blocks=blocks, dtype=dtype, **SIZES[kind])


def structure(example: Example) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in example.model.named_parameters()]


def block_types(example: Example) -> list[type[nn.Module]]:
    assert isinstance(example.model, Network)
    return [type(layer.block) for layer in example.model.layers]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_finite_gradient(kind: str, dtype: str) -> None:
    for seed in range(12):
        example = build_small(seed, kind, dtype=dtype)
        output = call_model(example.model, example.example_inputs)
        loss = resolve_loss(example.loss)(output)
        loss.backward()  # type: ignore[no-untyped-call]
        for path, parameter in example.model.named_parameters():
            assert parameter.dtype in (getattr(torch, dtype), torch.complex64), (seed, path)
            assert parameter.grad is not None, (seed, path)
            assert torch.isfinite(torch.abs(parameter.grad)).all(), (seed, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_block_keeps_shape_and_dtype_on_odd_sizes(kind: str, dtype: torch.dtype) -> None:
    width, length, batch = (SIZES[kind][name] for name in ("width", "length", "batch"))
    shape = (batch, length, width) if kind == "sequence" else (batch, width, length, length)
    blocks = BLOCKS[kind] if dtype == torch.float32 else without_complex(BLOCKS[kind])
    for block in dict.fromkeys(blocks):
        for seed in range(8):
            layer = Layer(random.Random(seed), block, kind, width, length)
            x = torch.randn(shape, dtype=dtype)
            with torch.no_grad():
                y = cast_parameters(layer, dtype)(x)
            assert (y.shape, y.dtype) == (x.shape, x.dtype), (seed, layer)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_the_structure(kind: str) -> None:
    built = [build_small(seed, kind) for seed in (3, 3, 4)]
    assert str(built[0].model) == str(built[1].model)
    assert structure(built[0]) == structure(built[1])
    assert structure(built[0]) != structure(built[2])
    torch.testing.assert_close(built[0].model.state_dict(), built[1].model.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_structure_does_not_depend_on_other_generators(kind: str) -> None:
    first = build_small(5, kind)
    random.seed(1)
    torch.manual_seed(1)
    second = calibration(5, kind, blocks=3, **SIZES[kind])
    assert structure(first) == structure(second)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_drawn_by_some_seed(kind: str) -> None:
    drawn: set[object] = set()
    for seed in range(15):
        drawn |= set(block_types(build_small(seed, kind, blocks=8)))
    assert drawn == set(BLOCKS[kind])


def test_every_activation_is_drawn_by_some_seed() -> None:
    drawn = {Activation(random.Random(seed)).name for seed in range(200)}
    assert drawn == set(ACTIVATIONS)


def test_networks_end_in_squares_and_in_classes_of_tokens_images_and_pixels() -> None:
    label_shapes = {kind: set[tuple[int, ...] | None]() for kind in KINDS}
    for kind in KINDS:
        for seed in range(12):
            inputs = build_small(seed, kind, blocks=1).example_inputs
            assert isinstance(inputs, dict)
            labels = inputs.get("labels")
            label_shapes[kind].add(None if labels is None else tuple(labels.shape))
    assert label_shapes == {"sequence": {None, (2, 11)}, "image": {None, (2,), (2, 9, 9)}}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_traced_into_a_unit_per_layer_and_replayed(kind: str) -> None:
    for seed in range(5):
        example = build_small(seed, kind, blocks=4)
        graph = trace(example.model, example.example_inputs, example.loss)
        assert not graph.notes
        assert len(graph.units) >= 4, seed
        kinds = {unit.kind for unit in graph.units}
        times, notes = measure_units(graph, kinds, torch.device("cpu"), repetitions=1)
        assert not notes
        assert [note for unit in times.values() for note in unit.notes] == [], seed


def test_16_bit_networks_have_no_spectral_blocks() -> None:
    names = [
        block.__name__
        for seed in range(15)
        for block in block_types(build_small(seed, "image", blocks=8, dtype="bfloat16"))
    ]
    assert "SpectralConvolution" not in names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "graph"}, "kind is 'graph'; allowed are sequence, image"),
        ({"dtype": "float16"}, "dtype is 'float16'; calibration allows float32 and bfloat16 only"),
        ({"dtype": "half"}, "dtype is 'half'"),
        ({"width": 3}, "width is 3; at least 4 is allowed"),
        ({"length": 7}, "length is 7; at least 8 is allowed"),
        ({"blocks": 0}, "blocks is 0; at least 1 is allowed"),
        ({"batch": 0}, "batch is 0; allowed: whole numbers from 1"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(change: dict[str, object], message: str) -> None:
    values = {"seed": 0, "kind": "sequence", "blocks": 1, **SIZES["sequence"], **change}
    with pytest.raises(ValueError, match=message):
        build_target("remora.zoo.calibration:calibration", values)


@pytest.mark.parametrize("kind", KINDS)
def test_smallest_sizes_work(kind: str) -> None:
    for seed in range(6):
        example = calibration(seed, kind, width=4, length=8, blocks=6, batch=1)
        output = call_model(example.model, example.example_inputs)
        resolve_loss(example.loss)(output).backward()  # type: ignore[no-untyped-call]
