"""What real TensorRT-RTX builds on a CPU, version by version, what it stores weights as, and what it computes in.

An engine's size is dominated by kernel code. Two builds that differ in width alone tell: what the larger one has more,
by the number of weights that it has more, is the bytes of a weight.
"""

from __future__ import annotations

import pytest

from harness.errors import BuildFailed
from harness.workers import Worker
from tests.runtimes.rtx_probes import (
    FORMS,
    NO_INT8_KERNEL,
    QUANTIZED,
    VERSIONS,
    WANTS_A_GPU,
    environment,
    probe,
    profile,
    weight_count,
)

WIDTHS = (128, 256)
SOMETHING = ""

_TYPED = {"fp32": 4, "fp16": 2}
_WELL_FORMED = {"int8", "weight_per_tensor"}
_MATMUL = dict.fromkeys(FORMS, 1) | _TYPED | {"activations_only": 4}
_CONV = dict.fromkeys(FORMS, 4) | _TYPED | dict.fromkeys(_WELL_FORMED, 1)
_FLOAT_CONV = _CONV | dict.fromkeys(_WELL_FORMED, NO_INT8_KERNEL)
KNOWN = {
    ("1.4", "matmul"): dict.fromkeys(FORMS, WANTS_A_GPU) | _TYPED,
    ("1.4", "conv"): dict.fromkeys(FORMS, SOMETHING) | _TYPED | dict.fromkeys(_WELL_FORMED, NO_INT8_KERNEL),
    ("1.5", "matmul"): _MATMUL,
    ("1.5", "conv"): _FLOAT_CONV,
    ("1.6", "matmul"): _MATMUL,
    ("1.6", "conv"): _FLOAT_CONV,
    ("1.7", "matmul"): _MATMUL,
    ("1.7", "conv"): _CONV,
}
"""Bytes of a weight in the engine, where the builder rounds the weights; or what is said where the form is refused."""


@pytest.fixture(scope="module", params=VERSIONS)
def worker(request, pytestconfig, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtx")
    found = environment(request.param, pytestconfig.rootpath, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRT_INT8_HARNESS_CACHE", str(folder))
        with Worker(found, deadline_s=120) as running:
            yield running


@pytest.fixture
def build(worker, tmp_path):
    """Engine size in bytes and coverage of a probe; the failure where that is what is known of the form."""

    def run(kind, form, width, rounded, **options):
        source = probe(kind, form, width, tmp_path / f"{width}.onnx", rounded=rounded)
        options = {"profiles": [profile(kind, width)], **options}
        known = KNOWN[worker.environment.version[:3], kind][form]
        if isinstance(known, str):
            with pytest.raises(BuildFailed) as caught:
                worker.build(source, options)
            assert known in caught.value.detail
            return None
        facts, _ = worker.build(source, options)
        return facts["bytes"], facts["coverage"]

    return run


def counted(kind, *, int8):
    operators = {"Conv" if kind == "conv" else "MatMul": 1}
    return {"int8": int(int8), "float": int(not int8), "operators": operators, "in_float": [] if int8 else ["operator"]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_bytes_of_a_weight_by_two_widths_and_what_the_operator_computes_in(worker, build, kind, form):
    built = [build(kind, form, width, rounded=False) for width in WIDTHS]
    if None in built:
        return
    (narrow, _), (wide, _) = built
    more = weight_count(kind, WIDTHS[1]) - weight_count(kind, WIDTHS[0])
    assert (wide - narrow) / more == pytest.approx(KNOWN[worker.environment.version[:3], kind][form], rel=0.1)
    # Weights may be INT8 in the engine and turned to float each time: a product of any other form.
    assert [coverage for _, coverage in built] == [counted(kind, int8=form in _WELL_FORMED)] * 2


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_weights_that_are_int8_in_the_model_compute_in_what_the_form_allows(build, kind, form):
    built = build(kind, form, WIDTHS[0], rounded=True)
    if built is not None:
        assert built[1] == counted(kind, int8=form in _WELL_FORMED)


def test_a_product_for_turing_is_int8_until_1_7_refuses_it(worker, build, tmp_path):
    if worker.environment.version < "1.7":
        built = build("matmul", "int8", WIDTHS[0], rounded=True, compute_capabilities=["SM75"])
        assert built is None or built[1] == counted("matmul", int8=True)
        return
    source = probe("matmul", "int8", WIDTHS[0], tmp_path / "product.onnx")
    with pytest.raises(BuildFailed) as caught:
        worker.build(source, {"profiles": [profile("matmul", WIDTHS[0])], "compute_capabilities": ["SM75"]})
    assert "for Turing (SM75)" in caught.value.detail


@pytest.mark.parametrize("rounded", [False, True])
def test_an_int8_convolution_for_turing_is_a_float_one_and_nothing_says_so(build, rounded):
    """Stored as INT8 where the model has it so: the bytes of a weight do not tell that it falls back."""
    built = [build("conv", "int8", width, rounded, compute_capabilities=["SM75"]) for width in WIDTHS]
    if None in built:  # refused before 1.7, as for any other GPU
        return
    assert [coverage for _, coverage in built] == [counted("conv", int8=False)] * 2
    more = weight_count("conv", WIDTHS[1]) - weight_count("conv", WIDTHS[0])
    assert (built[1][0] - built[0][0]) / more == pytest.approx(1 if rounded else 4, rel=0.1)
