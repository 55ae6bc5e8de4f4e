"""A pass of a model, and the tokens that it generates, as they are run, measured and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.errors import InvalidInputError
from remora.executor.step import storage_bytes
from remora.graph.loss import ExampleInputs, call_model

__all__ = ["Generation", "OnePass", "outputs_of", "random_states"]


@dataclass(frozen=True)
class OnePass:
    """A forward without gradients, whose output nobody keeps.

    Attributes:
        model: in evaluation mode.
        example_inputs: one batch.
    """

    model: nn.Module
    example_inputs: ExampleInputs

    def run(self) -> None:
        """Run it."""
        with torch.no_grad():
            call_model(self.model, self.example_inputs)

    def resident_bytes(self) -> int:
        """Bytes of parameters, buffers and batch on the device, storages counted once."""
        leaves = pytree.tree_leaves(self.example_inputs)
        inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return storage_bytes([*self.model.parameters(), *self.model.buffers(), *inputs])


@dataclass(frozen=True)
class Generation:
    """Greedy generation with a cache of keys and values.

    Attributes:
        model: that generates, in evaluation mode.
        prompt: ids of the tokens before.  # [batch, tokens]
        new_tokens: how many come after, whatever they are.
    """

    model: nn.Module
    prompt: Tensor
    new_tokens: int

    def run(self) -> None:
        """Run it."""
        self.tokens()

    def resident_bytes(self) -> int:
        """Bytes of parameters, buffers and prompt on the device, storages counted once."""
        return storage_bytes([*self.model.parameters(), *self.model.buffers(), self.prompt])

    def tokens(self) -> Tensor:
        """Generate.

        Returns:
            ids, in host memory.  # [batch, tokens]
        """
        model: Any = self.model
        with torch.no_grad():
            made: Tensor = model.generate(
                self.prompt,
                attention_mask=torch.ones_like(self.prompt),
                max_new_tokens=self.new_tokens,
                min_new_tokens=self.new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        return made.cpu()

    @staticmethod
    def of(
        model: nn.Module, example_inputs: ExampleInputs, prompt_tokens: int, new_tokens: int
    ) -> Generation:
        """Take the prompt from the example batch, shorter where the model has too few positions.

        Raises:
            InvalidInputError: there are no token ids, or too many tokens are to come.
        """
        ids = example_inputs.get("input_ids") if isinstance(example_inputs, Mapping) else None
        ids = example_inputs[0] if isinstance(example_inputs, tuple | list) else ids
        if not isinstance(ids, Tensor) or ids.is_floating_point():
            raise InvalidInputError(
                f"generated_tokens is {new_tokens} and example_inputs holds no 'input_ids'; "
                "allowed: 0"
            )
        length = min(prompt_tokens, ids.shape[-1])
        config: Any = getattr(model, "config", None)
        positions = getattr(config, "max_position_embeddings", None)
        if isinstance(positions, int) and not getattr(config, "is_encoder_decoder", False):
            length = min(length, positions - new_tokens)
            if length < 1:
                raise InvalidInputError(
                    f"generated_tokens is {new_tokens} and the model has {positions} positions; "
                    f"allowed: up to {positions - 1}"
                )
        return Generation(model, ids[:, : max(1, length)], new_tokens)


def outputs_of(model: nn.Module, example_inputs: ExampleInputs) -> list[Tensor]:
    """Run a pass and copy every tensor that it returns to host memory."""
    with torch.no_grad():
        output = call_model(model, example_inputs)
    leaves = pytree.tree_leaves(output)
    return [leaf.detach().to("cpu", copy=True) for leaf in leaves if isinstance(leaf, Tensor)]


def random_states(device: torch.device) -> list[Tensor]:
    """Random state of the CPU and, on CUDA, of the device."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
