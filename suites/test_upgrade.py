"""May we move from one runtime to another? One test a pair: built, run and timed on both, interleaved.

It is there with --baseline ENV and --candidate ENV alone. A regression fails, once it was confirmed by a second stage,
and so does a session that cannot be trusted. What stays open is neither proved nor disproved: an expected failure,
and the run's exit code is 3, as that of harness gate.
"""

import pytest

from harness.gate.findings import overall
from harness.gate.report import evidence, plain, properties, words


@pytest.mark.latency
@pytest.mark.upgrade_pairs
def test_upgrade(pair, gate, request):
    findings = gate.judge(pair)
    verdict = overall(findings)
    # As record_property does; that one warns under the family of JUnit files that pytest writes by default.
    request.node.user_properties += [
        ("baseline", pair.baseline.runtime),
        ("candidate", pair.candidate.runtime),
        ("verdict", verdict),
        *properties(findings),
    ]
    told = [plain(vars(one)) for one in findings if one.word != "pass"]
    if verdict in {"regression", "invalid"}:
        said = [line for one in told for line in (words(one), *evidence(one))]
        pytest.fail("\n".join([f"{pair}: {verdict}", *said]), pytrace=False)
    if verdict == "inconclusive":
        pytest.xfail("; ".join(map(words, told)))
