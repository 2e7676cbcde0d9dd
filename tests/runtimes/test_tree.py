"""What travels to a worker must run there: CPython 3.10, numpy, one runtime, nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from harness import runtimes
from harness.workers import bootstrap, guard

FILES = [*sorted(Path(runtimes.__file__).parent.glob("*.py")), Path(bootstrap.__file__), Path(guard.__file__)]
AT_THE_TOP = sys.stdlib_module_names | {"numpy"}
LAZILY = AT_THE_TOP | {"onnxruntime", "tensorrt_rtx", "tensorrt", "pycuda", "pynvml", "harness_runtimes"}


def _imported(nodes) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_python_3_10_and_imports_only_what_a_worker_has(path):
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
    assert _imported(tree.body) <= AT_THE_TOP
    assert _imported(ast.walk(tree)) <= LAZILY
