from __future__ import annotations

import pytest

from remora.api.plan import Plan
from remora.report.content import ReportContent
from remora.simulator.timeline import Timeline
from tests.api.small_models import small_plan
from tests.report.runs import pipeline_run


@pytest.fixture(scope="session")
def made_plan() -> Plan:
    return small_plan()


@pytest.fixture(scope="session")
def content(made_plan: Plan) -> ReportContent:
    return made_plan.content()


@pytest.fixture(scope="session")
def big_run() -> Timeline:
    """16 ranks, 64 micro-batches, 64 units, everything recomputed and offloaded."""
    return pipeline_run(ranks=16, micro_batches=64, units=4, offload=True)
