"""One batch as a data loader would give it, without moving the loader or its sampler on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

__all__ = ["example_batch"]


def example_batch(loader: Iterable[Any]) -> Any:
    """Collate the first samples of the loader's dataset, as many as a batch has.

    A loader that is none of PyTorch's, or whose dataset is a stream, is asked from its beginning.

    Args:
        loader: of the training.

    Returns:
        The batch, where the loader puts it.
    """
    if not isinstance(loader, DataLoader):
        return next(iter(loader))
    dataset: Any = loader.dataset
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if isinstance(dataset, IterableDataset):
        samples = iter(dataset)
        one = size is None
        return loader.collate_fn(next(samples) if one else list(itertools.islice(samples, size)))
    if loader.batch_sampler is None:
        return loader.collate_fn(dataset[0])
    if size is None:
        indices = list(next(iter(loader.batch_sampler)))
    else:
        indices = list(range(min(size, len(dataset))))
    fetch_all = getattr(dataset, "__getitems__", None)
    return loader.collate_fn(fetch_all(indices) if fetch_all else [dataset[i] for i in indices])
