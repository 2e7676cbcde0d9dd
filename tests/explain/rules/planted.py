"""One fault a rule, planted into the clean model in place; and what has to be found of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness.spec.calibration import Dialect
from tests.explain.rules.clean import SPEC, WIDE, add_pair, get, insert, node, producer, put, reads, without_pair

if TYPE_CHECKING:
    from collections.abc import Callable

S8S8, U8S8 = Dialect.S8S8, Dialect.U8S8
make = helper.make_node


@dataclass(frozen=True)
class Plant:
    """A fault.

    :param kind: of the one rule that is to find it. :param into: the dialect of the file; None is the FP32 one.
    :param where: what the finding names, all of it. :param evidence: numbers that it has to have, among others.
    :param spec: lengths, where they matter. :param asked: ``--dialect``.
    :param along: kinds that the change brings along, and that are true.
    """

    kind: str
    severity: str
    into: Dialect | None
    change: Callable[[onnx.ModelProto], None]
    where: tuple[str, ...]
    evidence: dict[str, Any] = field(default_factory=dict)
    spec: Any = None
    asked: Dialect | None = None
    along: tuple[str, ...] = ()

    def __str__(self):
        return f"{self.kind}-{self.into.value if self.into else 'fp32'}-{self.change.__name__}"


PLANTS: list[Plant] = []


def plant(kind, severity, into, *where, evidence=None, spec=None, asked=None, along=()):
    def enter(change):
        PLANTS.append(Plant(kind, severity, into, change, where, evidence or {}, spec, asked, along))
        return change

    return enter


# -- coverage ---------------------------------------------------------------------------------------------------------


@plant("float-activation", "slow", S8S8, "up", evidence={"count": 1})
@plant("float-activation", "slow", U8S8, "up", evidence={"count": 1})
def activation_left_in_float(model):
    without_pair(model, "up")


@plant("float-weight", "slow", S8S8, "down", evidence={"count": 1})
@plant("float-weight", "slow", U8S8, "down", evidence={"count": 1})
def weight_left_in_float(model):
    put(model, "plain", np.random.default_rng(0).normal(size=(64, WIDE)).astype(np.float32))
    node(model, "down").input[1] = "plain"


@plant("float-operator", "note", S8S8, "down", evidence={"count": 1, "of": 9})
def operator_left_in_float(model):
    weight_left_in_float(model)
    without_pair(model, "down")


@plant("computed-weight", "slow", S8S8, "down", evidence={"count": 1})
def weight_norm(model):
    put(model, "direction", np.random.default_rng(0).normal(size=(64, WIDE)).astype(np.float32))
    put(model, "gain", np.ones((1, WIDE), np.float32))
    insert(
        model,
        "down",
        make("ReduceL2", ["direction"], ["norm"], "norm", axes=[0], keepdims=1),
        make("Div", ["direction", "norm"], ["unit"], "unit"),
        make("Mul", ["unit", "gain"], ["down_normed"], "down_normed"),
    )
    node(model, "down").input[1] = "down_normed"


@plant("computed-weight", "slow", S8S8, "dynamic", evidence={"count": 1})
def weight_from_the_input(model):
    put(model, "few", np.array([0], np.int64))
    put(model, "many", np.array([3], np.int64))
    put(model, "axis2", np.array([2], np.int64))
    insert(
        model,
        "turn",
        make("Slice", ["r2", "few", "many", "axis2"], ["first3"], "first3"),
        make("Conv", ["r2", "first3"], ["correlated"], "dynamic", kernel_shape=[3], pads=[1, 1]),
        make("Add", ["r2", "correlated"], ["r2_more"], "use"),
    )
    reads(model, "turn", "r2", "r2_more")


@plant("recurrent", "note", S8S8, "gru", evidence={"count": 1})
def gru(model):
    draw = np.random.default_rng(0)
    put(model, "gru_w", draw.normal(0, 0.1, (1, 3 * WIDE, WIDE)).astype(np.float32))
    put(model, "gru_r", draw.normal(0, 0.1, (1, 3 * WIDE, WIDE)).astype(np.float32))
    insert(
        model,
        "norm1",
        make("GRU", ["rows", "gru_w", "gru_r"], ["all", ""], "gru", hidden_size=WIDE),
        make("Reshape", ["all", "flat"], ["all_rows"], "flat_rows"),
    )
    put(model, "flat", np.array([1, -1, WIDE], np.int64))
    reads(model, "norm1", "rows", "all_rows")


@plant("operator-format", "wrong", S8S8, "dynamic_q", evidence={"count": 1, "types": "DynamicQuantizeLinear"})
def quantized_at_run_time(model):
    insert(
        model,
        "norm2",
        make("DynamicQuantizeLinear", ["h1"], ["h1_q", "h1_s", "h1_z"], "dynamic_q"),
        make("Cast", ["h1_q"], ["h1_f"], "cast_q", to=TensorProto.FLOAT),
        make("Mul", ["h1_f", "h1_s"], ["h1_more"], "rescale"),
    )
    reads(model, "norm2", "h1", "h1_more")


@plant("einsum-weight", "note", None, "spread", evidence={"count": 1, "values": WIDE * WIDE})
@plant("einsum-weight", "note", S8S8, "spread", evidence={"count": 1, "values": WIDE * WIDE})
def projection_as_einsum(model):
    put(model, "spread_w", np.random.default_rng(0).normal(0, 0.1, (WIDE, WIDE)).astype(np.float32))
    insert(model, "norm2", make("Einsum", ["h1", "spread_w"], ["h1_more"], "spread", equation="btc,cd->btd"))
    reads(model, "norm2", "h1", "h1_more")


@plant("activation-products", "note", None, "qk", "av", evidence={"count": 2, "with_weights": 9})
def scores_by_einsum(model):
    node(model, "qk").CopyFrom(make("Einsum", ["q", "k"], ["scores"], "qk", equation="bic,bjc->bij"))


@plant("long-attention", "note", None, "qk", "av", evidence={"tokens": 600, "count": 2}, spec=SPEC)
def long_scores_by_einsum(model):
    scores_by_einsum(model)


@plant("activation-products", "note", None, "qk", "av", evidence={"count": 2, "with_weights": 9})
def as_it_is(model):
    """The float model has it."""


@plant("shared-weights", "note", None, "logits_w", evidence={"count": 1, "values": WIDE * WIDE})
def tied_embedding(model):
    put(model, "one", np.array([1], np.int64))
    insert(
        model,
        "norm3",
        make("Gather", ["logits_w", "one"], ["token"], "embed", axis=0),
        make("Add", ["h2", "token"], ["h2_more"], "use"),
    )
    reads(model, "norm3", "h2", "h2_more")


# -- placement --------------------------------------------------------------------------------------------------------


@plant("split-fusion", "slow", S8S8, "conv1", evidence={"count": 1, "before": "Relu"})
def pair_before_relu(model):
    add_pair(model, "c1", "relu1")


@plant("split-fusion", "slow", S8S8, "up", evidence={"count": 1, "before": "constant Add"})
def pair_before_bias(model):
    add_pair(model, "u", "up_bias")


def add_batch_norm(model, reader, tensor):
    for name in ("bn_s", "bn_b", "bn_m", "bn_v"):
        put(model, name, np.ones(WIDE, np.float32))
    names = [tensor, "bn_s", "bn_b", "bn_m", "bn_v"]
    insert(model, reader, make("BatchNormalization", names, ["bn_out"], "bn"))
    reads(model, reader, tensor, "bn_out")


@plant("split-fusion", "slow", S8S8, "conv1", evidence={"before": "BatchNormalization"})
def pair_before_batch_norm_s8s8(model):
    add_batch_norm(model, "relu1", "c1")
    add_pair(model, "c1", "bn")


@plant("split-fusion", "slow", U8S8, "conv1", evidence={"before": "BatchNormalization"})
def pair_before_batch_norm_u8s8(model):
    add_batch_norm(model, "relu1", node(model, "relu1").input[0])


@plant("quantized-output", "slow", S8S8, "qk_proj", evidence={"count": 1})
def pair_before_sigmoid(model):
    node(model, "logits").name = "qk_proj"
    node(model, "qk_proj").output[0] = "raw"
    model.graph.node.append(make("Sigmoid", ["raw"], ["logits"], "gate"))
    insert(model, "gate", make("Tanh", ["raw"], ["squashed"], "squash"))
    reads(model, "gate", "raw", "squashed")
    add_pair(model, "raw", "squash")


@plant("idle-qdq", "slow", S8S8, "rows", evidence={"count": 1, "before_movers": 0})
def pair_before_tanh(model):
    insert(model, "norm1", make("Tanh", ["rows"], ["squashed"], "squash"))
    reads(model, "norm1", "rows", "squashed")
    add_pair(model, "rows", "squash")


@plant("idle-qdq", "slow", S8S8, "rows", evidence={"count": 1}, along=("recurrent",))
def pair_before_gru(model):
    """No runtime takes a GRU in INT8 by Q/DQ."""
    gru(model)
    add_pair(model, "rows", "gru")


@plant("idle-qdq", "slow", U8S8, "scaled_moved", evidence={"count": 1, "before_movers": 1})
def pair_around_a_transpose(model):
    insert(model, "softmax", make("Tanh", ["scaled"], ["scaled_moved"], "soft_cap"))
    insert(
        model,
        "softmax",
        make("Transpose", ["scaled_moved"], ["turned"], "turn_more", perm=[0, 2, 1]),
        make("Neg", ["turned"], ["back"], "back"),
    )
    reads(model, "softmax", "scaled", "back")
    add_pair(model, "scaled_moved", "turn_more", dtype=np.uint8, zero=128)


@plant("double-qdq", "slow", S8S8, "n2", evidence={"count": 1})
def the_same_pair_again(model):
    before = node(model, "up").input[0]
    scale = float(get(model, producer(model, before).input[1]))
    add_pair(model, before, "up", scale=scale)


@plant("requantized", "wrong", S8S8, "n2", evidence={"count": 1, "next_scale": 0.5})
@plant("requantized", "wrong", U8S8, "n2", evidence={"count": 1, "next_scale": 0.5})
def another_pair_behind(model):
    before = node(model, "up").input[0]
    zero = get(model, producer(model, before).input[2])
    add_pair(model, before, "up", scale=0.5, dtype=zero.dtype, zero=int(zero))


@plant("lone-dequantize", "wrong", S8S8, "alone", evidence={"count": 1, "maker": "Cast"})
def cast_for_quantize(model):
    dequantize = producer(model, node(model, "up").input[0])
    dequantize.name = "alone"
    source = producer(model, dequantize.input[0])
    source.CopyFrom(make("Cast", [source.input[0]], [source.output[0]], "cast8", to=TensorProto.INT8))


@plant("lone-quantize", "wrong", S8S8, "alone", evidence={"count": 1, "reader": "Cast"})
def cast_for_dequantize(model):
    """On a tensor of its own, for no operator with weights."""
    put(model, "lone_s", np.array(0.05, np.float32))
    put(model, "lone_z", np.array(0, np.int8))
    insert(
        model,
        "softmax",
        make("QuantizeLinear", ["scaled", "lone_s", "lone_z"], ["lone_q"], "alone"),
        make("Cast", ["lone_q"], ["lone_f"], "cast_back", to=TensorProto.FLOAT),
    )
    reads(model, "softmax", "scaled", "lone_f")


@plant("cast-beside-qdq", "slow", S8S8, "to_half", "weight_to_half", evidence={"count": 2})
def cast_before_the_product(model):
    before = node(model, "down").input[0]
    insert(model, "down", make("Cast", [before], ["d_half"], "to_half", to=TensorProto.FLOAT16))
    weight = node(model, "down").input[1]
    insert(model, "down", make("Cast", [weight], ["w_half"], "weight_to_half", to=TensorProto.FLOAT16))
    node(model, "down").input[:] = ["d_half", "w_half"]
    node(model, "down").output[0] = "d16"
    insert(model, "residual2", make("Cast", ["d16"], ["d"], "back_to_float", to=TensorProto.FLOAT))


@plant("half-quantized-add", "slow", S8S8, "skip", evidence={"count": 1})
def one_side_of_the_residual(model):
    add_pair(model, "c2", "skip")
    one = node(model, "skip")
    dequantize = next(name for name in one.input if name.startswith("r1"))
    reads(model, "skip", dequantize, "x")


# -- attention --------------------------------------------------------------------------------------------------------


@plant("quantized-residual", "wrong", S8S8, "residual2", evidence={"count": 1, "own_pairs": 1})
def residual_in_int8(model):
    add_pair(model, "h1", "residual2")


@plant("quantized-residual", "wrong", U8S8, "residual2", evidence={"count": 1, "own_pairs": 1})
def residual_in_uint8(model):
    add_pair(model, "h1", "residual2", dtype=np.uint8, zero=128)


@plant("quantized-residual", "note", S8S8, "residual2", evidence={"count": 1, "own_pairs": 0})
def residual_beside_a_weight(model):
    """As writers do that put what they quantize before all of its readers."""
    reads(model, "residual2", "h1", node(model, "up").input[0])


@plant("quantized-norm", "wrong", S8S8, "norm3", evidence={"count": 1, "operators": "LayerNormalization"})
def norm_input_in_int8(model):
    add_pair(model, "h2", "norm3")


@plant("quantized-norm", "note", U8S8, "softmax", evidence={"count": 1, "operators": "Softmax"})
def softmax_input_in_uint8(model):
    add_pair(model, "scaled", "softmax", dtype=np.uint8, zero=128)


def quantize_qk(model):
    add_pair(model, "q", "qk")
    add_pair(model, "kt", "qk")


def products_in_int8(model):
    quantize_qk(model)


def long_products_in_int8(model):
    quantize_qk(model)


plant("quantized-product", "note", S8S8, "qk", evidence={"count": 1, "by_outputs": 1})(products_in_int8)
plant("long-attention", "slow", S8S8, "qk", evidence={"tokens": 600, "count": 1}, spec=SPEC)(long_products_in_int8)


@plant("long-attention", "note", None, "qk", "av", evidence={"tokens": 600, "count": 2}, spec=SPEC)
def long_products_in_float(model):
    """The float model has them."""


# -- scales -----------------------------------------------------------------------------------------------------------


def set_pair(model, reader, *, scale=None, zero=None, position=0):
    dequantize = producer(model, node(model, reader).input[position])
    if scale is not None:
        put(model, dequantize.input[1], np.asarray(scale, np.float32))
    if zero is not None:
        put(model, dequantize.input[2], np.asarray(zero))
    return dequantize


def bad(value, name):
    def change(model):
        set_pair(model, "down", scale=value)

    change.__name__ = name
    for into in Dialect:
        told = {"count": 1, "value": value if np.isfinite(value) else str(value)}
        plant("bad-scale", "wrong", into, "ur_scale", evidence=told)(change)


bad(0.0, "zero")
bad(-0.5, "negative")
bad(float("nan"), "nan")
bad(float("inf"), "infinite")


@plant("tiny-scale", "wrong", S8S8, "ur_scale", evidence={"count": 1})
def subnormal_scale(model):
    set_pair(model, "down", scale=1e-40)


@plant("block-scale", "slow", S8S8, "logits_w_DequantizeLinear", evidence={"count": 1, "block": 16})
def weight_by_block(model):
    model.opset_import[0].version = 21
    dequantize, _ = weight_parts(model, "logits")
    set_axis(dequantize, 0)
    dequantize.attribute.append(helper.make_attribute("block_size", 16))
    put(model, dequantize.input[1], np.full((2, WIDE), 0.01, np.float32))
    put(model, dequantize.input[2], np.zeros((2, WIDE), np.int8))


@plant("computed-scale", "wrong", S8S8, "ur_QuantizeLinear", "ur_DequantizeLinear", evidence={"count": 2})
def scale_of_the_data(model):
    put(model, "full", np.array(127.0, np.float32))
    insert(
        model,
        "ur_QuantizeLinear",
        make("ReduceMax", ["ur"], ["peak"], "peak", keepdims=0),
        make("Div", ["peak", "full"], ["own_scale"], "own_scale"),
    )
    for name in ("ur_QuantizeLinear", "ur_DequantizeLinear"):
        node(model, name).input[1] = "own_scale"


@plant("unequal-pair", "wrong", S8S8, "ur", evidence={"count": 1, "dequantize": 0.75})
@plant("unequal-pair", "wrong", U8S8, "ur", evidence={"count": 1, "dequantize": 0.75})
def pair_of_two_scales(model):
    put(model, "other", np.array(0.75, np.float32))
    producer(model, node(model, "down").input[0]).input[1] = "other"
    bias = [one for one in model.graph.node if "down" in one.name and "bias" in one.name]
    assert not bias


@plant("zero-point", "wrong", S8S8, "ur_QuantizeLinear", "ur_DequantizeLinear", evidence={"value": -128})
def asymmetric(model):
    set_pair(model, "down", zero=np.int8(-128))


@plant("mixed-dialects", "wrong", S8S8, "ur_QuantizeLinear", evidence={"uint8": 1})
def one_unsigned(model):
    set_pair(model, "down", zero=np.uint8(0))


@plant("unsigned", "wrong", S8S8, evidence={"count": 14}, asked=S8S8)
def all_unsigned(model):
    """Whole for x86, but asked as a file for TensorRT."""
    for one in model.graph.node:
        if one.op_type == "QuantizeLinear":
            put(model, one.input[2], np.uint8(0))


@plant("not-int8", "slow", S8S8, "ur_QuantizeLinear", "ur_DequantizeLinear", evidence={"types": "int16"})
def sixteen_bits(model):
    model.opset_import[0].version = 21
    set_pair(model, "down", zero=np.int16(0))


@plant("per-channel-activation", "slow", S8S8, "ur", evidence={"count": 1, "scales": 64})
def activation_by_channel(model):
    dequantize = set_pair(model, "down", scale=np.full(64, 0.02), zero=np.zeros(64, np.int8))
    for one in (dequantize, producer(model, dequantize.input[0])):
        one.attribute.append(helper.make_attribute("axis", 2))


def integer_bias(model, factor):
    conv = node(model, "conv1")
    scale = get(model, producer(model, conv.input[0]).input[1]) * get(model, producer(model, conv.input[1]).input[1])
    put(model, "bias_q", np.full(WIDE, 100, np.int32))
    put(model, "bias_s", (scale * factor).astype(np.float32))
    put(model, "bias_z", np.zeros(WIDE, np.int32))
    insert(model, "conv1", make("DequantizeLinear", ["bias_q", "bias_s", "bias_z"], ["bias_f"], "bias_dq", axis=0))
    conv.input[:] = [*conv.input[:2], "bias_f"]


@plant("quantized-bias", "wrong", S8S8, "conv1", evidence={"count": 1})
def bias_in_int32(model):
    integer_bias(model, 1.0)


@plant("bias-scale", "wrong", U8S8, "conv1", evidence={"count": 1, "ratio": 2.0})
def bias_of_another_scale(model):
    integer_bias(model, 2.0)


# -- weights ----------------------------------------------------------------------------------------------------------


def weight_parts(model, reader):
    dequantize = producer(model, node(model, reader).input[1])
    return dequantize, get(model, dequantize.input[0])


def set_axis(dequantize, axis):
    del dequantize.attribute[:]
    dequantize.attribute.append(helper.make_attribute("axis", axis))


@plant("wrong-axis", "wrong", S8S8, "conv2", evidence={"axis": 1, "expected": 0})
@plant("wrong-axis", "wrong", U8S8, "conv2", evidence={"axis": 1, "expected": 0})
def conv_by_input_channel(model):
    set_axis(weight_parts(model, "conv2")[0], 1)


@plant("wrong-axis", "wrong", S8S8, "logits", evidence={"axis": 0, "expected": 1})
def product_by_input_channel(model):
    set_axis(weight_parts(model, "logits")[0], 0)


@plant("wrong-axis", "wrong", S8S8, "conv2", evidence={"axis": 0, "expected": 1})
def transposed_conv_by_input_channel(model):
    one = node(model, "conv2")
    one.op_type = "ConvTranspose"
    set_axis(weight_parts(model, "conv2")[0], 0)


@plant("scale-length", "wrong", S8S8, "up_w_DequantizeLinear", evidence={"scales": 64, "channels": 32})
def axis_left_out(model):
    """64 scales of output channels, along the axis of 32 input channels."""
    set_axis(weight_parts(model, "up")[0], 0)


@plant("scale-length", "wrong", S8S8, "up_w_DequantizeLinear", evidence={"scales": 64 * WIDE, "channels": 64})
def scales_of_two_dimensions(model):
    put(model, weight_parts(model, "up")[0].input[1], np.full((WIDE, 64), 0.01, np.float32))


@plant("scale-length", "wrong", S8S8, "ur_QuantizeLinear", "ur_DequantizeLinear", evidence={"count": 2, "scales": 0})
def no_scale_at_all(model):
    set_pair(model, "down", scale=np.zeros(0), zero=np.zeros(0, np.int8))


@plant("bad-weight", "wrong", None, "up_w", evidence={"count": 1, "values": 2})
def weight_with_nan_and_infinity(model):
    values = get(model, "up_w").copy()
    values[0, 0], values[1, 1] = np.nan, np.inf
    put(model, "up_w", values)


@plant("bad-weight", "wrong", S8S8, "conv1_b", evidence={"count": 1, "values": 1})
def bias_with_nan(model):
    values = get(model, "conv1_b").copy()
    values[3] = np.nan
    put(model, "conv1_b", values)


@plant("per-tensor-weights", "wrong", S8S8, "logits")
@plant("per-tensor-weights", "wrong", U8S8, "logits")
def one_scale_for_all(model):
    dequantize, _ = weight_parts(model, "logits")
    values = np.random.default_rng(0).normal(size=(WIDE, WIDE)) * np.where(np.arange(WIDE) == 3, 20, 1)
    scale = np.abs(values).max() / 127
    put(model, dequantize.input[0], np.rint(values / scale).astype(np.int8))
    put(model, dequantize.input[1], np.array(scale, np.float32))
    put(model, dequantize.input[2], np.array(0, np.int8))


@plant("outlier-weights", "note", None, "down", evidence={"count": 1})
def a_few_large_weights(model):
    values = np.random.default_rng(0).normal(0, 0.1, (2000, WIDE)).astype(np.float32)
    values[5] *= 60
    put(model, "wide_w", np.random.default_rng(1).normal(0, 0.1, (64, 2000)).astype(np.float32))
    put(model, "down_w", values)
    insert(model, "down", make("MatMul", ["ur", "wide_w"], ["wide"], "wide"))
    reads(model, "down", "ur", "wide")


@plant("saturated-weights", "wrong", S8S8, "down", evidence={"count": 1})
def clipped_weights(model):
    dequantize, stored = weight_parts(model, "down")
    put(model, dequantize.input[0], np.clip(stored.astype(np.int16) * 3, -127, 127).astype(np.int8))


@plant("saturated-weights", "wrong", S8S8, "down", evidence={"count": 1})
def clipped_weights_in_float(model):
    """A weight in float before a QuantizeLinear of its own, as older TensorRT asks for it."""
    dequantize, stored = weight_parts(model, "down")
    put(model, "down_float", stored.astype(np.float32) * get(model, dequantize.input[1]) * 3)
    rest = [*dequantize.input[1:]]
    insert(model, dequantize.name, make("QuantizeLinear", ["down_float", *rest], ["down_q"], "down_q", axis=1))
    dequantize.input[0] = "down_q"


# -- shapes -----------------------------------------------------------------------------------------------------------


def thin(model, rows, columns):
    """The last product with a weight of another shape; its input is cut to it."""
    dequantize, _ = weight_parts(model, "logits")
    put(model, dequantize.input[0], np.random.default_rng(0).integers(-120, 120, (rows, columns)).astype(np.int8))
    put(model, dequantize.input[1], np.full(columns, 0.001, np.float32))
    put(model, dequantize.input[2], np.zeros(columns, np.int8))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = columns


@plant("small-operator", "slow", S8S8, "logits", evidence={"k": 32, "n": 4})
def four_outputs(model):
    thin(model, WIDE, 4)


@plant("small-operator", "slow", U8S8, "logits", evidence={"k": 8, "n": 32})
def eight_inputs(model):
    thin(model, 8, WIDE)
    for name, value in {"from": 0, "to": 8, "over": 2}.items():
        put(model, name, np.array([value], np.int64))
    before = node(model, "logits").input[0]
    insert(model, "logits", make("Slice", [before, "from", "to", "over"], ["n3_cut"], "cut"))
    reads(model, "logits", before, "n3_cut")


@plant("gemv", "slow", S8S8, "logits", evidence={"count": 1, "weights": WIDE * WIDE})
def one_row(model):
    insert(model, "norm3", make("ReduceMean", ["h2"], ["pooled"], "pool", axes=[1], keepdims=1))
    reads(model, "norm3", "h2", "pooled")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1


@plant("old-opset", "wrong", S8S8, evidence={"opset": 12})
def opset_12(model):
    """By its number alone: what matters is that Q/DQ had no axis then."""
    model.opset_import[0].version = 12


@plant("old-opset", "note", None, evidence={"opset": 11, "count": 0})
def opset_11(model):
    model.opset_import[0].version = 11


@plant("squeeze-without-axes", "wrong", S8S8, "squeeze", evidence={"count": 1})
def squeeze(model):
    put(model, "last", np.array([3], np.int64))
    put(model, "lead", np.array([0], np.int64))
    insert(
        model,
        "norm1",
        make("Unsqueeze", ["rows", "last"], ["rows4"], "unsqueeze"),
        make("Squeeze", ["rows4"], ["rows2"], "squeeze"),
        make("Unsqueeze", ["rows2", "lead"], ["rows3"], "unsqueeze2"),
    )
    reads(model, "norm1", "rows", "rows3")


@plant("nothing-varies", "note", None, "x", evidence={"open_batches": 1, "inputs": 1})
def only_the_batch(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].Clear()
    dims[0].dim_param = "batch"
    dims[2].Clear()
    dims[2].dim_value = 100
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")


@plant("malformed", "wrong", S8S8, "half_add", evidence={"count": 1, "operator": "Add"})
def add_of_one(model):
    insert(model, "logits", make("Add", ["h2"], ["unused"], "half_add"))


@plant("control-flow", "note", None, "if", evidence={"count": 1, "inside": 2})
def branch(model):
    put(model, "yes", np.array(True))
    bodies = [
        helper.make_graph(
            [make(kind, ["h2"], [f"{kind}_out"])], kind, [], [helper.make_empty_tensor_value_info(f"{kind}_out")]
        )
        for kind in ("Abs", "Neg")
    ]
    insert(model, "norm3", make("If", ["yes"], ["h2_more"], "if", then_branch=bodies[0], else_branch=bodies[1]))
    reads(model, "norm3", "h2", "h2_more")


@plant("float64", "slow", S8S8, "double_sqrt", evidence={"count": 1, "operators": "Sqrt"})
def doubles(model):
    insert(
        model,
        "norm3",
        make("Cast", ["h2"], ["h2_64"], "to_64", to=TensorProto.DOUBLE),
        make("Sqrt", ["h2_64"], ["h2_root"], "double_sqrt"),
        make("Cast", ["h2_root"], ["h2_32"], "to_32", to=TensorProto.FLOAT),
    )
    reads(model, "norm3", "h2", "h2_32")


@plant("int64-arithmetic", "note", S8S8, "count_up", evidence={"count": 1, "operators": "Add"})
def long_integers(model):
    put(model, "one64", np.array(1, np.int64))
    insert(
        model,
        "norm3",
        make("Cast", ["h2"], ["h2_int"], "to_int", to=TensorProto.INT64),
        make("Add", ["h2_int", "one64"], ["h2_more"], "count_up"),
        make("Cast", ["h2_more"], ["h2_float"], "to_float", to=TensorProto.FLOAT),
    )
    reads(model, "norm3", "h2", "h2_float")
