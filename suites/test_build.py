"""Every artefact builds; what really is INT8 in it is counted, or reported as unknown."""

import pytest


@pytest.mark.cases(builds_only=True)
def test_build(case, bench):
    built = bench.build(case)
    artefacts = bench.artefacts(case)
    sizes = [path.stat().st_size for path in artefacts]
    whole = bench.prepared(case.model).stat().st_size
    counted = [facts.get("coverage") for facts, _ in built]
    known = all(count is not None for count in counted)
    if case.precision == "int8":
        # Of the artefact only: in an engine file kernel code dominates.
        assert max(sizes) < whole, f"INT8 artefact of {max(sizes)} bytes, FP32 has {whole}"
        if known:
            assert min(count["int8"] for count in counted) > 0, f"nothing runs in INT8: {counted}"
    bench.record(
        "build",
        case,
        "pass" if known or case.precision != "int8" else "unknown",
        int8=[count["int8"] if count else "unknown" for count in counted],
        float=[count["float"] if count else "unknown" for count in counted],
        artefact_bytes=sizes,
        fp32_bytes=whole,
        engine_bytes=[facts.get("bytes") for facts, _ in built],
        build_seconds=[facts.get("seconds") for facts, _ in built],
        warnings=[line for facts, _ in built for line in facts.get("warnings", [])][:20],
    )
