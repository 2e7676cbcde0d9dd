from __future__ import annotations

import itertools

import pytest

from harness.errors import ConfigError, UsageError
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import read_case
from harness.spec.matrix import (
    DEFAULT_METHOD,
    DEFAULT_POLICY,
    FULL,
    MIXED_CALIBRATION,
    Matrix,
    expand,
    first_calibrations,
    read_matrix,
)  # fmt: skip

RUNTIMES = ["onnxruntime-1.32.0-cpu", "tensorrt-rtx-1.7.1.116"]


@pytest.mark.parametrize("matrix", [Matrix(), FULL], ids=["quick", "full"])
def test_every_case_once_with_models_outermost(matrix):
    cases = expand(matrix, ["vad", "rec"], RUNTIMES)
    assert len({case.id for case in cases}) == len(cases)
    per_int8 = len(matrix.methods) * len(matrix.policies)
    per_layout = per_int8 + len(matrix.precisions) - 1
    assert len(cases) == 2 * len(RUNTIMES) * len(matrix.layouts) * per_layout
    assert [key for key, _ in itertools.groupby(cases, lambda case: case.model)] == ["vad", "rec"]


def test_only_int8_has_a_calibration():
    for case in expand(FULL, ["vad"], RUNTIMES):
        assert (case.calibration is not None) == (case.precision is Precision.INT8)


def test_a_ready_model_has_one_int8_case_a_layout_and_no_calibration():
    families = {"onnxruntime-1.32.0-cpu": ("onnxruntime", "1.32.0"), "tensorrt-11.4.0": ("tensorrt", "11.4.0")}
    cases = [c for c in expand(FULL, ["qat", "vad"], families, families, {"qat"}) if c.model == "qat"]
    int8 = [case for case in cases if case.precision is Precision.INT8]
    assert all(case.ready and case.calibration is None for case in int8)
    assert len(int8) == len(families) * len(FULL.layouts)
    assert int8[0].id == "qat-onnxruntime-1.32.0-cpu-int8-ready-single"
    assert int8[-1].id == "qat-tensorrt-11.4.0-int8-ready-qdq_strong-geometric5"
    assert not any(case.ready for case in cases if case not in int8)


def test_a_ready_model_takes_only_routes_of_qdq():
    families = {"tensorrt-10.3.0": ("tensorrt", "10.3.0")}

    def routes(*asked):
        matrix = Matrix(precisions=("int8",), layouts=("single",), routes=asked)
        return [case.route.value for case in expand(matrix, ["qat"], families, families, {"qat"})]

    assert routes() == ["qdq"]
    assert routes("cache", "qdq_strong", "qdq") == ["qdq", "qdq_strong"]
    with pytest.raises(UsageError, match="no INT8 case is left"):
        expand(Matrix(routes=("cache",)), ["qat"], families, families, {"qat"})


def test_quick_is_the_default_method_and_policy():
    (case,) = (c for c in expand(Matrix(layouts=("single",)), ["vad"], RUNTIMES[:1]) if c.precision is Precision.INT8)
    assert case.calibration == Calibration(Method.parse(DEFAULT_METHOD), DEFAULT_POLICY)
    assert case.layout == "single"


def test_the_hazard_is_no_cell_of_the_full_matrix():
    assert Policy.REINTERPRET.value not in FULL.policies
    assert set(FULL.policies) == {policy.value for policy in Policy} - {"reinterpret"}


@pytest.mark.parametrize("matrix", [Matrix(), FULL], ids=["quick", "full"])
def test_what_is_compared_are_words_that_mean_something(matrix):
    for word in matrix.compared:
        method, _, policy = word.partition("-")
        Calibration(Method.parse(method), Policy(policy))


@pytest.mark.parametrize("matrix", [Matrix(), FULL], ids=["quick", "full"])
def test_what_is_compared_is_measured_once(matrix):
    cells = {case.calibration for case in expand(matrix, ["vad"], RUNTIMES[:1])}
    compared = matrix.comparisons()
    assert compared
    assert len(set(compared)) == len(compared)
    assert not cells & set(compared)


def test_comparisons_that_were_asked_for_by_name_are_cases():
    matrix = Matrix().with_options(methods=["mse"], policies=["pad"])
    assert Calibration(Method("mse"), Policy.PAD) in Matrix().comparisons()
    assert Calibration(Method("mse"), Policy.PAD) not in matrix.comparisons()


def test_two_words_for_one_method_are_one_case():
    cases = expand(Matrix(precisions=("int8",), methods=("percentile", "percentile99.99")), ["vad"], RUNTIMES[:1])
    assert [case.layout for case in cases] == ["single", "buckets3"]


def test_options_replace_the_axes_they_name():
    matrix = Matrix().with_options(methods=["mse"], layouts=["single"], policies=[], precisions=())
    assert (matrix.methods, matrix.layouts) == (("mse",), ("single",))
    assert (matrix.policies, matrix.precisions) == (Matrix().policies, Matrix().precisions)


@pytest.mark.parametrize(
    ("axis", "word", "says"),
    [
        ("precisions", "int4", "unknown precision 'int4'"),
        ("policies", "padd", "unknown policy 'padd'"),
        ("methods", "max", "unknown method 'max'"),
        ("methods", "percentile40", "percentile 40.0 is not between"),
    ],
)
def test_an_unknown_word_is_answered_with_the_known_ones(axis, word, says):
    with pytest.raises(UsageError, match=says) as caught:
        expand(Matrix().with_options(**{axis: [word]}), ["vad"], RUNTIMES)
    assert caught.value.todo


def test_the_names_that_need_no_file():
    assert read_matrix("quick") == Matrix()
    assert read_matrix("full") is FULL


def test_a_file_changes_what_it_names(tmp_path):
    path = tmp_path / "nightly.toml"
    path.write_text('methods = ["mse", "entropy"]\nsamples = 8\ncompared = []\n')
    assert read_matrix(str(path)) == Matrix(name="nightly", methods=("mse", "entropy"), samples=8, compared=())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('methds = ["mse"]', "unknown field 'methds'"),
        ('methods = "mse"', "methods = 'mse' is no list"),
        ("methods = [1]", "is no list of words"),
        ("methods = []", "leaves nothing to run"),
        ('samples = "8"', "samples = '8' is no int"),
        ("samples = true", "samples = True is no int"),
        ("samples = 0", "leaves nothing to run"),
        ("blocks = -3", "leaves nothing to run"),
        ("launches = 1", "launches = 1"),
        ("samples = 8.5", "samples = 8.5 is no int"),
        ("samples =", "no TOML"),
        ("\xff", "no TOML"),
    ],
)
def test_a_file_is_read_strictly(tmp_path, text, says):
    path = tmp_path / "m.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=says) as caught:
        read_matrix(str(path))
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="neither quick, full nor a readable file"):
        read_matrix(str(tmp_path / "none.toml"))


OLD, STRONG = "tensorrt-8.5.3.1", "tensorrt-11.4.0.106"
FAMILIES = {OLD: ("tensorrt", "8.5.3.1"), STRONG: ("tensorrt", "11.4.0.106")}


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"routes": ("calibrator",)}, r"calibrators take none of these: methods auto; policies ragged"),
        ({"routes": ("calibrator",), "methods": ("entropy",)}, "policies ragged"),
        ({"routes": ("qdq_strong",)}, r"tensorrt-8\.5\.3\.1 cannot take the routes qdq_strong"),
    ],
)
def test_int8_that_was_asked_for_does_not_vanish(axes, says):
    with pytest.raises(UsageError, match=says):
        expand(Matrix(**axes), ["vad"], [OLD], {OLD: FAMILIES[OLD]})


def test_a_route_that_one_of_the_runtimes_takes_is_enough():
    cases = expand(Matrix(routes=("qdq_strong",)), ["vad"], FAMILIES, FAMILIES)
    assert {case.runtime for case in cases if case.calibration} == {STRONG}


def test_the_first_calibration_that_can_go_by_each_route():
    matrix = Matrix(
        routes=("cache", "calibrator"), methods=("auto", "minmax"), policies=("ragged", "window"), layouts=("single",)
    )
    cases = first_calibrations(expand(matrix, ["vad"], [OLD], FAMILIES))
    found = {case.route: case.calibration for case in cases if case.calibration}
    assert found == {
        Route.CACHE: Calibration(Method("auto"), Policy.RAGGED),
        Route.CALIBRATOR: Calibration(Method("minmax"), Policy.WINDOW),
    }
    assert [case.precision for case in cases] == [Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT8]


def test_mixed_precision_is_a_case_of_its_own_by_qdq_alone():
    families = {"onnxruntime-1.32.0-cpu": ("onnxruntime", "1.32.0"), "tensorrt-10.3.0": ("tensorrt", "10.3.0")}
    matrix = Matrix(precisions=("fp32", "int8", "int8-mixed"), layouts=("single",), routes=("cache", "qdq"))
    cases = expand(matrix, ["vad"], families, families)
    mixed = [case for case in cases if case.mixed]
    assert [case.id for case in mixed] == [f"vad-{name}-int8-mixed-ragged-single" for name in families]
    assert all(read_case(case.id) == case for case in cases)
    assert {case.calibration for case in mixed} == {MIXED_CALIBRATION}
    assert set(mixed) < set(first_calibrations(cases))


def test_mixed_precision_alone():
    (case,) = expand(Matrix(precisions=("int8-mixed",), layouts=("single",)), ["vad"], RUNTIMES[:1])
    assert case.mixed
    assert case.precision is Precision.INT8


def test_a_ready_model_has_no_mixed_case():
    """Mixed precision is searched from an FP32 model; ready Q/DQ is what it is."""
    matrix = Matrix(precisions=("fp32", "int8", "int8-mixed"), layouts=("single",))
    found = expand(matrix, ["vad"], RUNTIMES[:1], ready={"vad"})
    assert [case.calibration for case in found] == [None, None]
    assert not any(case.mixed for case in found)
