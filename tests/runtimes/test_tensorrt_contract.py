"""Every TensorRT name and signature that the adapters use, against the dumps of the genuine API.

A name that is not in the table of :mod:`harness.runtimes.trt_api` fails, and so does an entry that a dump contradicts.
"""

from __future__ import annotations

import ast

import pytest

from harness.runtimes.trt_api import RTX_ONLY, USES
from tests.fake_tensorrt import facts
from tests.runtimes import trt_uses

VERSIONS = facts.versions()
APIS = {version: facts.facts(version) for version in VERSIONS}
RTX = {version: facts.facts(f"rtx-{version}") for version in facts.rtx_versions()}
KINDS = ("methods", "properties", "enum_members")
MEMBERS = {
    member
    for api in (*APIS.values(), *RTX.values())
    for entry in api["classes"].values()
    for kind in KINDS
    for member in entry.get(kind, ())
}
# Members of some TensorRT class that these files look up on something else: lists, arrays, our own objects, pycuda's.
ELSEWHERE = {
    "__init__", "allocate", "append", "count", "data", "enqueue", "free", "itemsize", "keys", "max", "min",
    "reallocate_output", "set_input", "size", "values", "close", "write", "read", "index", "extend", "insert", "pop",
}  # fmt: skip
RTX_FILES = {"tensorrt_engine.py": "", "tensorrt_rtx.py": "", "trt_common.py": "", "trt_io.py": "BindingIo"}
"""What runs with TensorRT-RTX, each with a class that does not; the other files run with TensorRT alone."""
ASKED_FOR = {"ICudaEngine.device_memory_size"}
"""Names that these files look for by ``hasattr`` before they use them, and that TensorRT-RTX may lack."""


def within(version: str, span: tuple[str, str]) -> bool:
    """Whether a version lies in a span; 10.16.1.11 lies in one that ends with 10.16."""
    first, last = (facts.numbers(end) if end else () for end in span)
    number = facts.numbers(version)
    return number >= first and (not last or number[: len(last)] <= last)


def plain(name: str) -> str:
    """``BuilderFlag`` of ``BuilderFlag.__members__.items`` and of ``BuilderFlag.__init__``."""
    return name.partition(".__")[0]


def missing(uses: trt_uses.Uses) -> list[str]:
    """What a file looks up and the tables lack."""
    table = {**USES, **RTX_ONLY}
    members = {name.rpartition(".")[2] for name in table}
    classes = {name for api in APIS.values() for name in api["classes"] if name.startswith("I")}
    found = []
    for name, lines in uses.names.items():
        where = f"{uses.file}:{lines[0]}"
        owner, _, member = name.partition(".")
        if owner == "*":
            if member in MEMBERS and member not in members and member not in ELSEWHERE:
                found.append(f"{where}: .{member} is a TensorRT name that is in no table (nor in ELSEWHERE here)")
        elif plain(name) not in table and not name.startswith("__"):
            found.append(f"{where}: {name} is in no table")
    for text, line in uses.texts.items():
        if text in classes and text != "INT8" and text not in table:
            found.append(f"{uses.file}:{line}: the class {text!r} is in no table")
        flags = [f"{kind}.{text}" for kind in ("BuilderFlag", "NetworkDefinitionCreationFlag", "DataType")]
        known = [flag for flag in flags if any(facts.has(api, flag) for api in APIS.values())]
        if known and not any(flag in table for flag in known):
            found.append(f"{uses.file}:{line}: {known[0]} is in no table")
    return found


@pytest.mark.parametrize("path", trt_uses.adapters(), ids=lambda path: path.name)
def test_every_name_is_in_the_table(path):
    assert missing(trt_uses.read(path)) == []


@pytest.mark.parametrize("name", USES)
def test_the_table_says_what_the_dumps_say(name):
    there = [version for version in VERSIONS if facts.has(APIS[version], name)]
    assert there == [version for version in VERSIONS if within(version, USES[name])]


@pytest.mark.parametrize("name", RTX_ONLY)
def test_the_table_of_rtx_says_what_the_dumps_say(name):
    there = [version for version in RTX if facts.has(RTX[version], name)]
    assert there == [version for version in RTX if within(version, RTX_ONLY[name])]
    assert not any(facts.has(api, name) for api in APIS.values())


def test_the_table_holds_nothing_that_is_not_used():
    """A method that we implement for TensorRT to call is used by its definition."""
    names: set[str] = set()
    loose: set[str] = set()
    for path in trt_uses.adapters():
        uses = trt_uses.read(path)
        names.update(map(plain, uses.names))
        loose.update(name.partition(".")[2] for name in uses.names if name.startswith("*."))
        loose.update(uses.texts)
        loose.update(text.lstrip("-") for text in uses.texts)
        tree = ast.parse(path.read_text("utf-8"))
        loose.update(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    unused = [n for n in (*USES, *RTX_ONLY) if n not in names and n.rpartition(".")[2] not in loose]
    assert unused == []


@pytest.mark.parametrize(("file", "without"), RTX_FILES.items())
def test_what_runs_with_rtx_is_in_every_rtx(file, without):
    """Also what is looked up on objects whose class the source does not tell: some class of RTX has it."""
    uses = trt_uses.read(trt_uses.RUNTIMES / file, without)
    names = [plain(n) for n in uses.names if n[:1] not in "*_"]
    assert names
    lacking = [(n, v) for n in names for v, api in RTX.items() if not facts.has(api, n) and n not in ASKED_FOR]
    assert lacking == []
    loose = {name.partition(".")[2] for name in uses.names if name.startswith("*.")} & MEMBERS - set(ELSEWHERE)
    for version, api in RTX.items():
        known = {member for entry in api["classes"].values() for kind in KINDS for member in entry.get(kind, ())}
        assert loose - known == set(), version


def unfit(call: trt_uses.Call, overloads: list[str]) -> bool:
    """Whether no overload takes so many arguments and these keywords."""
    for signature in overloads:
        names = facts.parameters(signature)
        behind = dict(names[call.positional :])
        required = {name for name, has_to in behind.items() if has_to}
        if call.positional <= len(names) and set(call.keywords) <= set(behind) and required <= set(call.keywords):
            return False
    return True


@pytest.mark.parametrize("path", trt_uses.adapters(), ids=lambda path: path.name)
def test_every_call_fits_every_version_that_has_the_method(path):
    apis = {**(APIS if path.name != "tensorrt_rtx.py" else {}), **(RTX if path.name in RTX_FILES else {})}
    wrong = []
    for call in trt_uses.read(path).calls:
        # Of self.__init__ calls the object itself is the first argument.
        bound = trt_uses.Call(call.name, call.positional, call.keywords, call.line)
        if call.name.endswith(".__init__.__init__"):
            bound = trt_uses.Call(call.name.removesuffix(".__init__"), call.positional - 1, call.keywords, call.line)
        for version, api in apis.items():
            overloads = facts.signatures(api, bound.name)
            if overloads and unfit(bound, overloads):
                wrong.append(f"{path.name}:{call.line}: {bound.name} of {version} is {overloads}")
    assert wrong == []


def test_spans():
    assert within("8.4.1.5", ("8.4", ""))
    assert within("10.16.1.11", ("8.4", "10.16"))
    assert not within("11.0.0.114", ("8.4", "10.16"))
    assert not within("8.4.1.5", ("8.5", ""))
    assert within("8.6.1", ("8.4", "9.3"))
    assert not within("10.0.1", ("8.4", "9.3"))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("config.algorithm_selector = None", "IBuilderConfig.algorithm_selector is in no table"),
        ("def f(trt): return trt.Refitter", "Refitter is in no table"),
        ("x = self._trt.PreviewFeature.PROFILE_SHARING_0806", "PreviewFeature.PROFILE_SHARING_0806 is in no table"),
        ("hasattr(trt, 'IStreamReader')", "IStreamReader is in no table"),
        ("hasattr(self._engine, 'get_engine_stat')", "ICudaEngine.get_engine_stat is in no table"),
        ("getattr(trt, name)\nKINDS = ['IAlgorithmSelector']", "the class 'IAlgorithmSelector' is in no table"),
        ("FLAGS = ['SPARSE_WEIGHTS']", "BuilderFlag.SPARSE_WEIGHTS is in no table"),
        ("thing.set_aux_streams([1])", ".set_aux_streams is a TensorRT name that is in no table"),
        ("kept.context.nonsense(1)", "IExecutionContext.nonsense is in no table"),
    ],
)
def test_a_name_that_is_not_in_the_table_is_found(tmp_path, source, complaint):
    path = tmp_path / "adapter.py"
    path.write_text(source)
    assert [line for line in missing(trt_uses.read(path)) if complaint in line], missing(trt_uses.read(path))


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ("builder.build_serialized_network(network, config)", True),
        ("builder.build_serialized_network(network)", False),
        ("context.execute_async_v3(stream_handle=1)", True),
        ("context.execute_async_v3(stream=1)", False),
        ("engine.create_execution_context()", True),
        ("engine.create_execution_context(strategy)", False),  # 8.6 has no strategy
        ("trt.Runtime()", False),
    ],
)
def test_a_call_that_does_not_fit_is_found(tmp_path, source, fits):
    path = tmp_path / "adapter.py"
    path.write_text(source)
    (call,) = trt_uses.read(path).calls
    overloads = [facts.signatures(api, call.name) for api in APIS.values()]
    assert any(overloads)
    assert all(not unfit(call, one) for one in overloads if one) is fits
