"""Every small model is really built, run forward and backward."""

from __future__ import annotations

import pytest
import torch

from remora.zoo import ARCHITECTURES, Example, build, build_target
from tests.zoo.model_files import FULL, TINY, load

SEED = 7
DROPPING = ("gpt2_tiny", "bert_tiny", "t5_tiny", "vit_tiny", "swin_test", "convnext_test")


def build_small(name: str, **changes: object) -> Example:
    content = load("model", name)
    torch.manual_seed(SEED)
    return build_target(content["target"], {**content["values"], **changes})


def loss_of(example: Example) -> torch.Tensor:
    if isinstance(example.example_inputs, dict):
        output = example.model(**example.example_inputs)
    else:
        output = example.model(*example.example_inputs)
    loss = output.loss if example.loss is None else example.loss(output)
    assert isinstance(loss, torch.Tensor)
    return loss


@pytest.mark.parametrize("name", TINY)
def test_small_model_gives_every_parameter_a_finite_gradient(name: str) -> None:
    example = build_small(name)
    assert all(module.training for module in example.model.modules())
    loss = loss_of(example)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]
    for path, parameter in example.model.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("name", TINY)
def test_batch_and_dtype_of_the_values_hold_in_model_and_inputs(name: str) -> None:
    dtype = "float32" if name == "fno2d_tiny" else "bfloat16"
    example = build_small(name, batch=2, dtype=dtype)
    assert isinstance(example.example_inputs, dict)
    for tensor in example.example_inputs.values():
        assert tensor.shape[0] == 2
        if tensor.is_floating_point():
            assert tensor.dtype == getattr(torch, dtype)
    for parameter in example.model.parameters():
        assert parameter.is_complex() or parameter.dtype == getattr(torch, dtype)
    loss = loss_of(example)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", ["gpt2_tiny", "swin_test", "climate_unet_tiny"])
def test_same_seed_gives_same_model_and_inputs(name: str) -> None:
    first, second = build_small(name), build_small(name)
    states = (first.model.state_dict(), second.model.state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)
    torch.testing.assert_close(first.example_inputs, second.example_inputs, rtol=0, atol=0)


@pytest.mark.parametrize("name", DROPPING)
def test_random_masks_are_on(name: str) -> None:
    example = build_small(name)
    before = torch.get_rng_state()
    loss_of(example)
    assert not torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["resnet_tiny", "unet_tiny"])
def test_batch_norm_counts_its_batches(name: str) -> None:
    example = build_small(name)
    loss_of(example)
    counts = [b for path, b in example.model.named_buffers() if path.endswith("batches_tracked")]
    assert counts
    assert all(int(count) == 1 for count in counts)


def test_every_architecture_has_a_small_and_a_full_size() -> None:
    for sizes in (TINY, FULL):
        used = {load("model", name)["target"] for name in sizes}
        assert used == set(ARCHITECTURES.values())


def test_build_by_name_equals_build_by_target() -> None:
    content = load("model", "unet_tiny")
    torch.manual_seed(SEED)
    by_name = build("unet", **content["values"])
    by_target = build_small("unet_tiny")
    torch.testing.assert_close(by_name.model.state_dict(), by_target.model.state_dict())


def test_longitude_wraps_around_and_latitude_does_not() -> None:
    from remora.zoo.climate_unet import SphereConv

    conv = SphereConv(1, 1)
    field = torch.zeros(1, 1, 8, 8)
    field[0, 0, 4, 0] = 1.0
    change = (conv(field) - conv(torch.zeros_like(field)))[0, 0]  # [8, 8]
    assert change[4, 7] != 0
    field = torch.zeros(1, 1, 8, 8)
    field[0, 0, 0, 4] = 1.0
    change = (conv(field) - conv(torch.zeros_like(field)))[0, 0]  # [8, 8]
    assert torch.equal(change[7], torch.zeros(8))


def test_latitude_weights_follow_the_area_of_a_row() -> None:
    from remora.zoo.climate_unet import latitude_weights

    weights = latitude_weights(4)  # rows at -67.5, -22.5, 22.5 and 67.5 degrees
    assert weights.shape == (4, 1)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[1] / weights[0]) == pytest.approx(0.92388 / 0.38268, rel=1e-4)
