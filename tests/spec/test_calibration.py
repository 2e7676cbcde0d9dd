from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.spec.calibration import Calibration, Method, Policy


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("minmax", Method("minmax")),
        (" entropy ", Method("entropy")),
        ("mse", Method("mse")),
        ("percentile", Method("percentile", 99.99)),
        ("percentile99.9", Method("percentile", 99.9)),
        ("percentile99.999", Method("percentile", 99.999)),
        ("percentile99", Method("percentile", 99.0)),
    ],
)
def test_words_that_name_a_method(text, method):
    assert Method.parse(text) == method


@pytest.mark.parametrize("text", ["", "max", "MinMax", "percentile-99", "percentile99.9x", "minmax99", "kl"])
def test_what_is_no_method_is_answered_with_what_there_is(text):
    with pytest.raises(UsageError) as caught:
        Method.parse(text)
    assert "percentile" in caught.value.todo


@pytest.mark.parametrize("text", ["percentile9.9.9", "percentile.", "percentile99..9"])
def test_a_percentile_that_is_no_number(text):
    with pytest.raises(UsageError, match="is no number"):
        Method.parse(text)


@pytest.mark.parametrize("text", ["percentile0", "percentile50", "percentile100", "percentile9999"])
def test_a_percentile_that_keeps_too_little_or_everything(text):
    with pytest.raises(UsageError, match="not between 50 and 100"):
        Method.parse(text)


def test_a_percentile_is_named_where_there_is_one():
    with pytest.raises(UsageError, match="not between"):
        Method("percentile")


PERCENTILES = st.floats(50.01, 99.999).map(lambda share: Method("percentile", float(f"{share:g}")))


@given(st.sampled_from(["minmax", "entropy", "mse"]).map(Method) | PERCENTILES)
def test_a_method_reads_back_from_its_name(method):
    assert Method.parse(str(method)) == method


def test_the_names_in_ids():
    assert str(Calibration(Method.parse("percentile"), Policy.RAGGED)) == "percentile-ragged"
    assert str(Calibration(Method.parse("percentile99.999"), Policy.PER_PROFILE)) == "percentile99.999-per_profile"
