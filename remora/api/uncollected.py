"""Work that makes many objects and no garbage, without the search for any."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave out Python's search for garbage meanwhile; for work of a second or so.

    All objects of a large graph are looked at in such a search, again and again while more of them
    are made, which takes longer than to make them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
