#!/usr/bin/env bash
# What a job needs, in the checkout: .venv with the harness, and a tox environment for each runtime in $ENVIRONMENTS.
# Both stay on the runner from job to job, so that only what changed is installed.
set -euo pipefail

python=${PYTHON:-python3} # 3.11 or newer
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[report,suites]' 'tox>=4.20'
if [ -n "${ENVIRONMENTS:-}" ]; then
    .venv/bin/python -m tox run -e "$ENVIRONMENTS" --notest
fi
rm -rf out && mkdir out
