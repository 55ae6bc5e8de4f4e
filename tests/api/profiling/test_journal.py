from __future__ import annotations

from pathlib import Path

from remora.api.profiling.journal import Journal, is_step, step_item


def test_what_is_done_is_known_to_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    first = Journal(path)
    first.begin("operators")
    first.done("operators", {"units": 3})
    first.begin(step_item("keep all", 0))
    second = Journal(path)
    assert second.values("operators") == {"units": 3}
    assert second.open_item() == step_item("keep all", 0)
    assert is_step(second.open_item() or "")
    assert second.attempts(step_item("keep all", 0)) == 1
    assert (second.num_done, second.values("plans")) == (1, None)


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).done("operators", {"units": 3})
    with path.open("a") as file:
        file.write('{"done": "plans", "val')
    again = Journal(path)
    assert (again.num_done, again.open_item()) == (1, None)
    again.done("plans", {})
    assert Journal(path).num_done == 2
    again.remove()
    assert not path.exists()
