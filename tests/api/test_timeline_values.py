"""A timeline crosses the border between processes."""

from __future__ import annotations

import dataclasses
import json

from remora.api.timeline_values import timeline_from_values, timeline_to_values
from remora.simulator.timeline import Timeline
from tests.report.runs import pipeline_run


def test_a_timeline_is_read_back() -> None:
    run = pipeline_run(ranks=2, micro_batches=4, offload=True)
    values = json.loads(json.dumps(timeline_to_values(run), allow_nan=False))
    again = timeline_from_values(values)
    # What instructions do to buffers and whom they wait for stays behind.
    assert again == _labels_only(run)
    assert again.events[0].instruction.kind is run.events[0].instruction.kind


def _labels_only(run: Timeline) -> Timeline:
    events = []
    for event in run.events:
        one = event.instruction
        bare = type(one)(
            one.kind,
            one.rank,
            one.stream,
            one.unit,
            one.micro_batch,
            event.end_s - event.start_s,
            stage=one.stage,
        )
        events.append(dataclasses.replace(event, instruction=bare))
    return dataclasses.replace(run, events=tuple(events))
