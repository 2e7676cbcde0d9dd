import msgspec
import pytest

from harness.errors import ConfigError
from harness.spec.config import read_config
from harness.spec.options import DECIDED, FAMILIES, RuntimeOptions
from harness.spec.patterns import matches


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("tensorrt-10.3.0", "tensorrt-10", True),
        ("tensorrt-10.3.0", "tensorrt-10.3.0", True),
        ("tensorrt-10.3.0", "tensorrt-1", False),
        ("tensorrt-10.3.0", "tensorrt-*", True),
        ("tensorrt-10.3.0", "tensorrt", True),
        ("tensorrt-rtx-1.7.1.116", "tensorrt", False),
        ("tensorrt-rtx-1.7.1.116", "tensorrt-rtx", True),
        ("onnxruntime-1.32.0-cpu", "*-cpu", True),
        ("model[1]", "model[1]", False),
    ],
)
def test_a_pattern_is_a_name_or_its_start(name, pattern, fits):
    assert matches(name, [pattern]) is fits


def test_no_pattern_fits_everything():
    assert matches("anything", [])


def test_later_tables_win_key_by_key():
    options = RuntimeOptions((
        ("tensorrt", {"workspace_bytes": 1, "device": 1}),
        ("tensorrt-8", {"workspace_bytes": 2}),
        ("onnxruntime", {"threads": 4}),
    ))  # fmt: skip
    assert options.of("tensorrt-8.6.1") == {"workspace_bytes": 2, "device": 1}
    assert options.of("tensorrt-10.3.0") == {"workspace_bytes": 1, "device": 1}
    assert options.of("onnxruntime-1.32.0-cpu") == {"threads": 4}
    assert options.of("tensorrt-rtx-1.7.1.116") == {}


def test_the_configuration_gives_them_by_runtime(tmp_path):
    file = tmp_path / "harness.toml"
    file.write_text('[options."tensorrt-8"]\ntactic_sources = ["CUBLAS"]\ncuda_graph = true\n')
    assert read_config(file).options.of("tensorrt-8.5.3.1") == {"tactic_sources": ["CUBLAS"], "cuda_graph": True}


def test_what_the_case_decides_is_no_option(tmp_path):
    file = tmp_path / "harness.toml"
    file.write_text('[options."tensorrt-8"]\nflags = ["INT8"]\n')
    with pytest.raises(ConfigError, match=r"(?s)options\.tensorrt-8\.flags.*the precision decides them"):
        read_config(file)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("tensorrt-8", True), ("tensorrt-8.6.0", True), ("tensorrt-8.6.0@gpu1", True), ("tensorrt-8@gpu*", True),
        ("tensorrt@gpu1", True), ("*@gpu1", True), ("tensorrt-8.6.0@gpu2", False), ("tensorrt-10", False),
    ],
)  # fmt: skip
def test_a_pattern_without_a_host_fits_on_every_host(pattern, fits):
    assert matches("tensorrt-8.6.0@gpu1", [pattern]) is fits


def test_a_pattern_with_a_host_fits_nothing_here():
    assert not matches("tensorrt-8.6.0", ["tensorrt-8.6.0@*"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[options."tensorrt-8"]\nworkspace = 4', r"unknown field `?workspace.*the options are cuda_graph, device"),
        ('[options.tensorrt]\nworkspace_bytes = "8 GiB"', r"workspace_bytes: expected `?int.* got `?str"),
        ("[options.tensorrt]\nworkspace_bytes = -1", r"workspace_bytes: expected `?int.* >= 1"),
        ("[options.tensorrt]\noptimization_level = 9", r"optimization_level: expected `?int.* <= 5"),
        ('[options.tensorrt]\ntactic_sources = "CUBLAS"', r"tactic_sources: expected `?array.* got `?str"),
        ("[options.tensorrt]\ncuda_graph = 1", r"cuda_graph: expected `?bool.* got `?int"),
        ('[options.tensorrt]\ncompute_capabilities = ["SM89"]', "unknown field `?compute_capabilities"),
        ("[options.tensort]\ndevice = 1", "no runtime is called so.*did you mean 'tensorrt'"),
        ("[options.tensorrt-10.13]\ndevice = 1", "unknown field `?13.*quote a name with dots"),
        ('[options."*"]\nnothing = 1', "unknown field `?nothing"),
        ("[options.tensorrt-rtx]\ntf32 = true", "FP32 is without"),
    ],
)
def test_options_are_checked_when_the_file_is_read(tmp_path, text, says):
    file = tmp_path / "harness.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        read_config(file)


@pytest.mark.parametrize(
    "text",
    [
        '[options."tensorrt-*"]\nworkspace_bytes = 1',
        '[options."*-cpu"]\nthreads = 2',
        '[options."*"]\ndevice = 1',
        '[options."tensorrt@gpu1"]\ndevice = 1',
        '[options."tensorrt-8.6@gpu*"]\ncuda_graph = true',
        "[options.tensorrt-rtx]\ncompute_capabilities = ['SM120']",
    ],
)
def test_options_of_any_runtime_that_a_pattern_can_name(tmp_path, text):
    file = tmp_path / "harness.toml"
    file.write_text(text)
    assert len(read_config(file).options.tables) == 1


def test_the_adapters_take_what_can_be_said():
    """And nothing that a case does not decide is left out here."""
    from harness.runtimes import onnxruntime, tensorrt, tensorrt_rtx

    adapters = {"tensorrt": tensorrt, "tensorrt-rtx": tensorrt_rtx, "onnxruntime": onnxruntime}
    for family, struct in FAMILIES.items():
        known = set(adapters[family]._DEFAULTS)
        assert {one.name for one in msgspec.structs.fields(struct)} == known - set(DECIDED), family
