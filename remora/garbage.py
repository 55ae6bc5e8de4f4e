"""Work that makes many objects and little garbage, without the search for any."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["settled", "uncollected"]


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


@contextmanager
def settled() -> Iterator[None]:
    """Leave what exists by now out of Python's search for garbage; for work of any length.

    With torch loaded and a model traced, one search takes half a second: a good part of what a
    scheduler has. Garbage made meanwhile is still found.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
