#!/usr/bin/env bash
# The night's run: $RUNTIMES on the matrix $MATRIX. Records, JUnit, the newest figures of every case and what the machine
# can do go to out/, also when tests fail; the records are kept in results/ on the runner, too.
# $PYTHONS: an interpreter that is no tox environment, as in a container.
set -euo pipefail

options=(--runtime="$RUNTIMES" --require="$RUNTIMES" --matrix="${MATRIX:-quick}")
if [ -n "${PYTHONS:-}" ]; then options+=(--python="$PYTHONS"); fi

code=0
.venv/bin/pytest suites/ "${options[@]}" --results=out/results --junit-xml=out/nightly.xml || code=$?

.venv/bin/harness doctor --report > out/doctor.txt || true # 5 where nothing can run: the suites have said so
if [ -d out/results ]; then
    .venv/bin/harness results import out/results
    .venv/bin/harness results compact
    .venv/bin/harness results export --format openmetrics -o out/harness.prom
    .venv/bin/harness report --since 90d --out out/report --markdown out/report/summary.md
fi
exit "$code"
