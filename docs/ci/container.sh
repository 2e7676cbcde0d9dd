#!/usr/bin/env bash
# Inside one of NVIDIA's TensorRT containers: container.sh COMMAND. The image's own Python and TensorRT become a runtime, the
# harness gets a Python of its own, then COMMAND runs: docs/ci/nightly.sh, or docs/ci/upgrade-gate.sh with $BASELINE.
# $EXPECTED is the version that the tag is said to hold; another one ends the job here.
set -euo pipefail

python3 - "$EXPECTED" <<'PYTHON'
import sys

python = ".".join(map(str, sys.version_info[:3]))
if sys.version_info < (3, 10):
    sys.exit(f"this image has CPython {python}, a runtime's interpreter needs 3.10: take the tox environment")
import tensorrt

if not f"{tensorrt.__version__}.".startswith(f"{sys.argv[1]}."):
    sys.exit(f"the image was said to hold TensorRT {sys.argv[1]} and holds {tensorrt.__version__}")
print(f"TensorRT {tensorrt.__version__}, CPython {python}")
PYTHON

# pycuda is compiled against the image's CUDA. The variable is for images that mark their Python as the system's (PEP 668).
export PIP_BREAK_SYSTEM_PACKAGES=1
python3 -m pip install --quiet --disable-pip-version-check numpy 'pycuda>=2024.1' uv
python3 -m uv venv --quiet --clear --seed --python '>=3.11,<3.14' .venv
docs/ci/install.sh

PYTHONS=$(command -v python3)
CANDIDATE=${CANDIDATE:-$PYTHONS}
export PYTHONS CANDIDATE
exec "$@"
