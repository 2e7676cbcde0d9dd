"""Programs as they stand in engines of TensorRT-RTX 1.7.1, cut to what is read; whole engines: test_rtx_facts.py."""

from __future__ import annotations

import pytest

from harness.runtimes.rtx_layers import coverage, layers

WEIGHTS = '  tensor={ const_payload_size=65536 dims={ 256 256 } name="w" offset=0 strides={ 256 1 } type=int8 }'
INPUT = '  tensor={{ dims={{ "n" 256 }} mem_prop=0 name="{name}" offset=0 strides={{ 256 1 }} type={type} }}'
PRODUCT = (
    '  fully_connected={{ name="{name}" output={{"y" }} input={{"{left}" "{right}" "alpha" }} stream=0 trA=false }}'
)


def program(*lines):
    text = "\n".join(["header {", "  version = 5", "}", "descriptors {", *lines, "}"])
    return b"\x15\x04\0\0NLYM\xa1\xda\x1e\0\xb5\x2b\0\0\0\0\0\0" + text.encode() + b"\0kernels \xff\xfe"


def product(*, left="x", right="w", name="product"):
    return PRODUCT.format(name=name, left=left, right=right)


def tensor(name, kind):
    return INPUT.format(name=name, type=kind)


def counts(*programs):
    found = coverage(b"ftrt\0" + b"".join(programs))
    return found and (found["int8"], found["float"])


def test_both_operands_decide():
    assert counts(program(WEIGHTS, tensor("x", "int8"), product())) == (1, 0)
    assert counts(program(WEIGHTS, tensor("x", "float"), product())) == (0, 1)
    half = WEIGHTS.replace("type=int8", "type=half")
    assert counts(program(half, tensor("x", "half"), product())) == (0, 1)


@pytest.mark.parametrize(
    "turned",
    [
        '  cast={ name="cast_1" output={"w2" } input={"w" } stream=0  layers="" }',
        '  function={ name=__myl_Cast args={ "w" "n" "w2" } input_args={ "w" "n" } output_args={ "w2" } binary=1 }',
    ],
    ids=["operator", "compiled"],
)
def test_weights_that_are_turned_to_float_are_weights_of_a_float_operator(turned):
    lines = [WEIGHTS, tensor("n", "int64"), tensor("x", "int8"), tensor("w2", "float")]
    assert counts(program(*lines, turned, product(right="w2"))) == (0, 1)


def test_a_part_of_a_constant_is_one():
    part = '  sub_tensor={ base="w" const_offset=0 dims={ 256 64 } name="part^deref" strides={ 256 1 } type=int8 }'
    assert counts(program(WEIGHTS, part, tensor("x", "int8"), product(right="part^deref"))) == (1, 0)


def test_products_of_activations_do_not_count():
    lines = [WEIGHTS, tensor("x", "int8"), tensor("z", "float")]
    assert counts(program(*lines, product(), product(left="z", right="x", name="attention"))) == (1, 0)


def test_constants_go_on_to_the_programs_of_fused_kernels():
    fused = program(tensor("x", "float"), tensor("w", "float"), product(name="fused"))
    assert counts(program(WEIGHTS, tensor("x", "int8"), product()), fused) == (1, 1)


def test_an_operator_is_int8_if_it_is_in_every_profile():
    def in_profile(kind, name):
        return program(WEIGHTS, tensor("x", kind), product(name=name))

    assert counts(in_profile("int8", "product"), in_profile("int8", "product [profile 1]")) == (1, 0)
    assert counts(in_profile("int8", "product"), in_profile("float", "product [profile 1]")) == (0, 1)


def test_what_operators_are_called_in_a_model():
    convolution = product(name="c").replace("fully_connected", "corrltn")
    transposed = product(name="t").replace("fully_connected", "deconvolution")
    found = coverage(program(WEIGHTS, tensor("x", "int8"), product(), convolution, transposed))
    assert found == {"int8": 3, "float": 0, "operators": {"MatMul": 1, "Conv": 1, "ConvTranspose": 1}, "in_float": []}


@pytest.mark.parametrize(
    "engine",
    [
        b"",
        b"ftrt, and no program in it",
        program(tensor("x", "int8")),
        program(WEIGHTS, product()),  # a tensor without a type
        program(WEIGHTS, tensor("x", "int8"), product())[:-12],  # cut off: the text has no end
        b"NLYM by chance" + bytes(100),
    ],
)
def test_where_nothing_is_told_nothing_is_known(engine):
    assert coverage(engine) is None


def test_layers_say_which_nodes_they_compute():
    said = r'layers="[ONNX Layer: conv]' + "\x1f" + r'[ONNX Layer: relu]"'
    kernel = (
        '  function={ name=__myl_MulRelu fqn=__myl_MulRelu_0x1 args={ "x" "y" } input_args={ "x" } output_args={ "y" } '
        f"binary=0 stream=0 {said} }}"
    )
    helper = '  add={ name="counter" output={"n" } input={"n" "one" } stream=0  layers="" }'
    engine = b"".join([program(WEIGHTS, tensor("x", "int8"), tensor("y", "half"), kernel, helper, product())] * 2)
    fused, plain = layers(engine)
    assert (fused["Name"], fused["LayerType"]) == ("__myl_MulRelu", "kernel")
    assert fused["Metadata"] == "[ONNX Layer: conv]\x1f[ONNX Layer: relu]"
    assert [(end["Name"], end["Datatype"]) for end in (*fused["Inputs"], *fused["Outputs"])] == [
        ("x", "int8"), ("y", "half"),
    ]  # fmt: skip
    assert (plain["Name"], plain["LayerType"]) == ("product", "MatMul"), "two profiles have it, and it is told once"
    assert layers(b"no engine") == []
