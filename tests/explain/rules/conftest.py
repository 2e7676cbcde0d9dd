from __future__ import annotations

import pytest

from tests.explain.rules import clean


@pytest.fixture
def float_model():
    return clean.fp32()
