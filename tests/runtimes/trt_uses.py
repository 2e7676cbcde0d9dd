"""What the TensorRT adapters look up, read off their source."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

RUNTIMES = Path(__file__).parents[2] / "harness" / "runtimes"
MODULES = {"trt", "tensorrt", "tensorrt_rtx"}
"""How the module is called where it is used, a leading underscore aside."""
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "inspector": "EngineInspector",
    "creation": "NetworkDefinitionCreationFlag",
    "runtime_config": "IRuntimeConfig",
}
"""How objects of the library are called in the adapters -> their class. Whoever gives one another name adds it."""


@dataclass
class Call:
    """A call of a method of the library, with as many positional arguments and these keywords."""

    name: str
    positional: int
    keywords: tuple[str, ...]
    line: int


@dataclass
class Uses:
    """:param names: ``Class``, ``Class.member``, or ``*.member`` where the object's class cannot be told -> lines."""

    file: str
    names: dict[str, list[int]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, line: int) -> None:
        self.names.setdefault(name, []).append(line)


def adapters() -> list[Path]:
    return sorted({*RUNTIMES.glob("tensorrt*.py"), *RUNTIMES.glob("trt_*.py")} - {RUNTIMES / "trt_api.py"})


def read(path: Path, without: str = "") -> Uses:
    """What a file looks up.

    :param without: a class whose body is left out.
    """
    uses = Uses(path.name)
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name == without)]
    chained = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (id(node) not in chained or not _of_module(node)):
            _add_attribute(uses, node)
        elif isinstance(node, ast.Call):
            _add_call(uses, node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            uses.texts.setdefault(node.value, node.lineno)
    return uses


def _add_attribute(uses: Uses, node: ast.Attribute) -> None:
    dotted = _of_module(node)
    if dotted:
        uses.add(dotted, node.lineno)
        return
    owner = OBJECTS.get(_last(node.value), "*")
    uses.add(f"{owner}.{node.attr}", node.lineno)


def _add_call(uses: Uses, node: ast.Call) -> None:
    function = node.func
    if isinstance(function, ast.Name) and function.id in ("getattr", "hasattr") and len(node.args) > 1:
        target, name = node.args[:2]
        if isinstance(name, ast.Constant):
            if _last(target) in MODULES:
                uses.add(str(name.value), node.lineno)
            else:
                inner = _of_module(target) if isinstance(target, ast.Attribute) else ""
                uses.add(f"{inner or OBJECTS.get(_last(target), '*')}.{name.value}", node.lineno)
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        return
    if isinstance(function, ast.Attribute):
        dotted = _of_module(function)
        name = f"{dotted}.__init__" if dotted else f"{OBJECTS.get(_last(function.value), '*')}.{function.attr}"
        keywords = tuple(str(k.arg) for k in node.keywords)
        uses.calls.append(Call(name, len(node.args), keywords, node.lineno))


def _of_module(node: ast.expr) -> str:
    """``BuilderFlag.INT8`` of ``trt.BuilderFlag.INT8`` and of ``self._trt.BuilderFlag.INT8``, else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr.lstrip("_") in MODULES and parts:
            return ".".join(reversed(parts))
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in MODULES:
        return ".".join(reversed(parts))
    return ""


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_")
    return node.id.lstrip("_") if isinstance(node, ast.Name) else ""
