"""Work without the search for garbage in what exists already."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from remora.garbage import settled, uncollected


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    """The whole suite runs with what it imports left out already."""
    gc.unfreeze()
    yield
    gc.freeze()


class _Node:
    me: "_Node"


def _ring() -> weakref.ref[_Node]:
    """Garbage that only a search finds."""
    node = _Node()
    node.me = node
    return weakref.ref(node)


def test_what_exists_is_left_out_and_new_garbage_is_found() -> None:
    with settled():
        assert gc.get_freeze_count() > 0
        ring = _ring()
        gc.collect()
        assert ring() is None
    assert gc.get_freeze_count() == 0


def test_inside_another_it_changes_nothing() -> None:
    with settled():
        count = gc.get_freeze_count()
        with settled():
            assert gc.get_freeze_count() == count
        assert gc.get_freeze_count() == count


def test_an_error_ends_it() -> None:
    with pytest.raises(ValueError, match="broken"), settled():
        raise ValueError("broken")
    assert gc.get_freeze_count() == 0


def test_collection_is_on_again_afterwards() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
