from __future__ import annotations

import pytest

from remora.report.content import ReportContent
from tests.api.small_models import small_plan


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return small_plan().content()
