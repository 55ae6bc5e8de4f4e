"""Models without memory run a whole step under fake tensors, as tracing needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from remora.zoo import Example, build_target
from remora.zoo.fake import build_without_memory, parameters_without_memory
from tests.zoo.model_files import FULL, TINY, load

GIB = 2**30


def build_light(name: str) -> Example:
    content = load("model", name)
    return build_without_memory(content["target"], content["values"])


def fake_step(example: Example) -> Tensor:
    """Run forward, loss and backward with every tensor replaced by a fake one on the CPU."""
    mode = FakeTensorMode()
    fakes: dict[nn.Parameter, nn.Parameter] = {}
    for module in example.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = fakes.setdefault(parameter, _fake(parameter, mode))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)
    assert isinstance(example.example_inputs, dict)
    inputs = {name: mode.from_tensor(t) for name, t in example.example_inputs.items()}
    with mode:
        loss: Tensor = example.model(**inputs).loss
        loss.backward()  # type: ignore[no-untyped-call]
    return loss


def _fake(parameter: nn.Parameter, mode: FakeTensorMode) -> nn.Parameter:
    with mode:
        empty = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype)
        return nn.Parameter(empty)


def check_light_model(name: str) -> None:
    example = build_light(name)
    assert all(parameter.is_meta for parameter in example.model.parameters())
    assert all(buffer.device.type == "cpu" for buffer in example.model.buffers())
    loss = fake_step(example)
    assert loss.shape == ()
    for path, parameter in example.model.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.shape == parameter.shape, path


@pytest.mark.parametrize("name", TINY)
def test_small_model_runs_a_step_under_fake_tensors(name: str) -> None:
    check_light_model(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_model_runs_a_step_under_fake_tensors(name: str) -> None:
    check_light_model(name)


@pytest.mark.parametrize("name", TINY)
def test_light_model_equals_the_real_one_in_all_but_weights(name: str) -> None:
    content = load("model", name)
    light, real = build_light(name), build_target(content["target"], content["values"])

    def shapes(model: nn.Module) -> list[tuple[object, ...]]:
        named = model.named_parameters(remove_duplicate=False)
        return [(path, p.shape, p.stride(), p.dtype, p.requires_grad) for path, p in named]

    assert shapes(light.model) == shapes(real.model)
    assert len(list(light.model.parameters())) == len(list(real.model.parameters()))  # ties
    buffers = (dict(light.model.named_buffers()), dict(real.model.named_buffers()))
    torch.testing.assert_close(*buffers, rtol=0, atol=0)
    torch.testing.assert_close(light.example_inputs, real.example_inputs, rtol=0, atol=0)


def test_a_parameter_registered_twice_stays_one_and_the_hook_goes() -> None:
    with parameters_without_memory():
        shared = nn.Parameter(torch.ones(3), requires_grad=False)
        first, second = nn.Module(), nn.Module()
        first.weight = shared
        second.weight = shared
    assert first.weight is second.weight
    assert first.weight.is_meta
    assert not first.weight.requires_grad
    assert not nn.Linear(2, 2).weight.is_meta


@pytest.mark.slow
def test_seven_billion_parameters_stay_under_one_and_a_half_gib() -> None:
    values = load("model", "llama_7b")
    code = (
        "import resource\n"
        "from remora.zoo.fake import build_without_memory\n"
        f"example = build_without_memory({values['target']!r}, {values['values']!r})\n"
        "print(sum(p.numel() for p in example.model.parameters()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parameters, peak_memory_bytes = map(int, done.stdout.split())
    assert parameters == 6_738_415_616
    assert peak_memory_bytes < 1.5 * GIB
