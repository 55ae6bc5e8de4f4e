"""What a problem of inference says beside its graph: tokens, sequences and the cache of keys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["NO_CACHE", "InferenceSpec", "Mode", "UnitCache"]


class Mode(StrEnum):
    """What is planned: steps of training, or passes of inference."""

    TRAIN = "train"
    INFERENCE = "inference"


@dataclass(frozen=True, slots=True)
class UnitCache:
    """Keys and values that one unit keeps of one micro-batch, in bytes.

    Attributes:
        held: with all tokens.
        loaded: what is there before a pass, which has to come in where it waits on the host.
        stored: what a pass adds, which has to go out again.
    """

    held: int
    loaded: int
    stored: int


NO_CACHE = UnitCache(0, 0, 0)


@dataclass(frozen=True, slots=True)
class InferenceSpec:
    """Passes of inference.

    A pass over fewer tokens than the prompt is one that generates: the cache before it is counted
    as it is at the last such pass, when it is longest. A pass over the prompt finds it empty. The
    memory of the cache is that of all tokens, whatever the pass.

    Attributes:
        sequences: of the traced pass, all micro-batches together.
        pass_tokens: of one sequence in the traced pass; 0 for a model without tokens.
        prompt_tokens: of one sequence.
        generated_tokens: of one sequence, after the prompt.
        cache_bytes: of one sequence with all its tokens, by unit; empty if no unit keeps any.
            # [num_units]
    """

    sequences: int = 1
    pass_tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cache_bytes: tuple[int, ...] = ()

    @property
    def total_tokens(self) -> int:
        """Tokens of one sequence at its end."""
        return self.prompt_tokens + self.generated_tokens

    @property
    def generates(self) -> bool:
        """Whether the traced pass is one that finds the prompt in the cache."""
        return 0 < self.pass_tokens < self.prompt_tokens

    def cache_of(self, unit: int, micro_batches: int) -> UnitCache:
        """The cache of one unit and one of ``micro_batches`` equal micro-batches."""
        size = self.cache_bytes[unit] if self.cache_bytes else 0
        if not size:
            return NO_CACHE
        held = size * -(-self.sequences // micro_batches)
        added = min(self.pass_tokens, self.total_tokens)
        stored = -(-held * added // self.total_tokens)
        return UnitCache(held, held - stored if self.generates else 0, stored)
