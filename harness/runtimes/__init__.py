"""What runs inside an environment: numpy, one runtime, the standard library; CPython 3.10 syntax.

The coordinator ships this tree to its workers by content, where it is called ``harness_runtimes``. So imports in
here are relative, runtimes are imported lazily, and nothing of the rest of harness is in reach.
"""
