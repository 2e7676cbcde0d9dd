"""The stand-in has what the genuine bindings have, and refuses what they refuse."""

from __future__ import annotations

import pytest

from tests.fake_tensorrt import facts, models, versions

NEWEST = versions()[-1]


@pytest.mark.parametrize("version", [*versions(), *(f"rtx-{version}" for version in facts.rtx_versions())])
def test_exactly_the_genuine_names(bench, version):
    trt = bench(version).trt
    known = facts.facts(version)
    assert trt.__version__ == known["version"] == version.removeprefix("rtx-")
    classes = {name for name in known["classes"] if "." not in name}
    assert {name for name in vars(trt) if isinstance(getattr(trt, name), type) and name in classes} == classes
    for name, entry in known["classes"].items():
        cls = trt
        for part in name.split("."):
            cls = getattr(cls, part)
        for member in (*entry.get("methods", ()), *entry.get("properties", ()), *entry.get("enum_members", ())):
            if not (member == "__init__" or name == "IHostMemory"):
                assert hasattr(cls, member), f"{name}.{member}"
        for member, value in entry.get("enum_members", {}).items():
            assert int(getattr(cls, member)) == value
        if "enum_members" not in entry and name != "IHostMemory":
            own = {n for n in vars(cls) if not n.startswith("_")}
            inner = {n.rpartition(".")[2] for n in known["classes"] if n.startswith(name + ".")}
            assert own <= set(entry.get("methods", ())) | set(entry.get("properties", ())) | inner, name


def test_a_name_that_a_version_lacks(bench):
    for version, owner, member in (
        ("8.4", "ICudaEngine", "num_io_tensors"),
        ("8.4", "IExecutionContext", "execute_async_v3"),
        ("8.5", "IBuilderConfig", "builder_optimization_level"),
        ("10.0", "ICudaEngine", "num_bindings"),
        ("10.0", "IExecutionContext", "execute_async_v2"),
        ("11.0", "IBuilderConfig", "int8_calibrator"),
        ("11.0", "BuilderFlag", "INT8"),
        ("11.0", "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("11.0", "ICudaEngine", "device_memory_size"),
    ):
        cls = getattr(bench(version).trt, owner)
        with pytest.raises(AttributeError, match=member):
            getattr(cls, member)


def test_an_attribute_that_no_version_has_cannot_be_set(bench):
    made = bench("11.4")
    with pytest.raises(AttributeError, match="int8_calibrator"):
        made.config.int8_calibrator = None
    with pytest.raises(AttributeError, match="no attribute 'workspace'"):
        made.config.workspace = 1


@pytest.mark.parametrize("version", ["8.6", NEWEST])
def test_arguments_that_do_not_fit(bench, version):
    made = bench(version)
    trt, config, builder = made.trt, made.config, made.builder
    for call in (
        lambda: trt.Builder(None),
        lambda: trt.Builder("log"),
        lambda: trt.Logger("a"),
        lambda: builder.create_network(1.5),
        lambda: builder.create_network(None),
        lambda: builder.create_network(-1),
        lambda: builder.create_network(flag=1),
        lambda: builder.build_serialized_network(made.network()),
        lambda: config.set_flag(1),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1.5),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, -1),
        lambda: config.set_memory_pool_limit("WORKSPACE", 1),
        lambda: config.set_tactic_sources([trt.TacticSource.JIT_CONVOLUTIONS]),
        lambda: trt.OnnxParser(made.network(), None),
        lambda: trt.OnnxParser(made.network(), made.log).parse("text"),
        lambda: trt.Runtime(made.log).deserialize_cuda_engine("text"),
        lambda: builder.create_optimization_profile().set_shape("x", (1,), (1,)),
        lambda: builder.create_optimization_profile().set_shape("x", 1, 1, 1),
        lambda: builder.create_optimization_profile().set_shape("x", (1.0,), (1.0,), (1.0,)),
    ):
        with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
            call()
    with pytest.raises(TypeError, match="incompatible function arguments"):
        config.profiling_verbosity = 1
    for name in ("ICudaEngine", "IHostMemory", "IBuilderConfig"):
        with pytest.raises(TypeError, match="No constructor defined"):
            getattr(trt, name)()


def test_deserialize_takes_no_second_argument_before_11(bench):
    made = bench("8.6")
    with pytest.raises(TypeError):
        made.trt.Runtime(made.log).deserialize_cuda_engine(b"", 1)


def test_a_subclass_has_to_call_the_genuine_constructor(bench):
    trt = bench("8.6").trt

    class Lazy(trt.IInt8MinMaxCalibrator):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        Lazy()

    class Bare(trt.IInt8EntropyCalibrator2):
        pass

    assert Bare().get_algorithm() == trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2
    with pytest.raises(RuntimeError, match="pure virtual function"):
        Bare().get_batch(["x"])


def test_enums_are_no_numbers(bench):
    trt = bench("8.6").trt
    assert trt.float32 == trt.DataType.FLOAT
    assert (trt.DataType.FLOAT == 0) is False
    assert repr(trt.DataType.HALF) == "<DataType.HALF: 1>"
    assert str(trt.Logger.INFO) == "Severity.INFO"
    assert trt.Logger.Severity is trt.ILogger.Severity
    with pytest.raises(TypeError):
        1 << trt.BuilderFlag.INT8


def test_dims_are_no_tuple(bench):
    dims = bench("8.6").trt.Dims
    assert dims((1, 2)) == (1, 2)
    assert dims([1, -1])[-1] == -1
    assert repr(dims((1, 2))) == "(1, 2)"
    assert tuple(dims((1, 2))) == (1, 2)
    for wrong in (lambda: dims([1.0]), lambda: dims("ab"), lambda: dims((1,)) == dims((1,)), lambda: hash(dims(()))):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(IndexError):
        dims((1,))[5]


def test_a_genuine_name_without_behaviour_says_so(bench):
    made = bench("8.6")
    layer = made.parsed(models.conv()).get_layer(0)
    with pytest.raises(NotImplementedError, match=r"IBuilderConfig\.can_run_on_DLA"):
        made.config.can_run_on_DLA(layer)
