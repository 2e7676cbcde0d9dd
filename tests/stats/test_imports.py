"""What importing costs those who compute nothing."""

from __future__ import annotations

import subprocess
import sys

MODULES = "harness.plan, harness.workbench, harness.latency, harness.stats.rule, harness.stats.tails"


def test_scipy_is_left_to_those_who_compute():
    """scipy.stats takes most of a second, at every start of the suites and of the command."""
    program = f"import sys, {MODULES}; print([name for name in sys.modules if name.partition('.')[0] == 'scipy'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
