"""Every artefact builds; what really is INT8 in it is counted, or reported as unknown."""

import itertools

import pytest

from harness.weights import weight_bytes

_IN_FLOAT = (
    "between the model's own Q/DQ ONNX Runtime computes in float: accuracy is that of INT8, times are not. "
    "Its INT8 kernels want Q/DQ on outputs and int32 biases, TensorRT neither"
)


@pytest.mark.cases(builds_only=True)
def test_build(case, bench):
    built = bench.build(case)
    artefacts = bench.artefacts(case)
    weights = [weight_bytes(path, None if case.ready else bench.prepared(case.model)) for path in artefacts]
    whole = weight_bytes(bench.prepared(case.model), bench.prepared(case.model))
    rebuilt = bench.rebuilt(case)
    counted, *others = [bench.coverage(case, one) for one in (built, *rebuilt)]  # each build picks kernels of its own
    known = None not in itertools.chain(counted, *others)
    problem = _not_int8(case, weights, whole, (counted, *others)) if case.precision == "int8" else ""
    in_float = bool(problem) and bench.computes_in_float(case)
    verdict = "pass" if known or case.precision != "int8" else "unknown"
    bench.record(
        "build",
        case,
        "in float" if in_float else "failed" if problem else verdict,
        **({"reasons": [_IN_FLOAT]} if in_float else {"error": problem} if problem else {}),
        int8=[count["int8"] if count else "unknown" for count in counted],
        float=[count["float"] if count else "unknown" for count in counted],
        weight_bytes=weights,
        fp32_weight_bytes=whole,
        artefact_bytes=[path.stat().st_size for path in artefacts],
        fp32_bytes=bench.prepared(case.model).stat().st_size,
        cached=[facts.get("cached") for facts, _ in built],
        engine_bytes=[facts.get("bytes") for facts, _ in built],
        build_seconds=[facts.get("seconds") for facts, _ in built],
        rebuilt=[
            [
                {"int8": "unknown", "float": "unknown", **(count or {})}
                | {name: facts.get(name) for name in ("seconds", "bytes", "cached")}
                for (facts, _), count in zip(again, counts, strict=True)
            ]
            for again, counts in zip(rebuilt, others, strict=True)
        ],
        calibration=[facts.get("calibration") for facts, _ in built],
        flags=[facts.get("flags") for facts, _ in built],
        device_memory=bench.device_memory(case, built),
        warnings=[line for facts, _ in built for line in facts.get("warnings", [])][:20],
    )
    if problem and not in_float:
        pytest.fail(f"{case}: {problem}", pytrace=False)


def _not_int8(case, weights, whole, builds):
    """Why the INT8 engine is none; empty where it is one, or where nothing shows it.

    By Q/DQ the weights in the artefact tell: in a small file the added nodes outweigh them, in an engine file kernel
    code. By the routes cache and calibrator the artefact is the FP32 model.
    """
    if "qdq" in case.route and max(weights) >= whole:
        return f"the weights of the INT8 artefact have {max(weights)} bytes, FP32's {whole}"
    for number, counted in enumerate(builds):
        if any(count is not None and count["int8"] == 0 for count in counted):
            return f"nothing runs in INT8 in build {number}: {counted}; the build's warnings are in the record"
    return ""
