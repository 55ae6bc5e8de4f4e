"""A graph survives JSON; a broken file is named."""

from __future__ import annotations

import json

import pytest

from remora.errors import FileFormatError
from remora.graph.serialize import graph_from_json, graph_to_json
from tests.problems import toy_graph, zoo_graph


def test_round_trip_is_equal() -> None:
    graph = zoo_graph("resnet_tiny")
    again = graph_from_json(graph_to_json(graph))
    assert again == graph
    assert again.content_hash == graph.content_hash


def test_a_graph_cut_short_is_refused() -> None:
    text = graph_to_json(toy_graph())
    with pytest.raises(FileFormatError, match="not complete JSON"):
        graph_from_json(text[: len(text) // 2])


def test_another_version_is_refused() -> None:
    content = json.loads(graph_to_json(toy_graph()))
    content["version"] = 99
    with pytest.raises(FileFormatError, match="version is 99; allowed: 1"):
        graph_from_json(json.dumps(content))


def test_a_missing_field_is_refused() -> None:
    content = json.loads(graph_to_json(toy_graph()))
    del content["units"][0]["saved"]
    with pytest.raises(FileFormatError, match="saved"):
        graph_from_json(json.dumps(content))
