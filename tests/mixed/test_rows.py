"""Rescaled rows: FP32 computes what it did, whatever stands in the stretch; quiet rows keep their codes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from harness.accuracy import Score
from harness.calibration.observe import observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import choose
from harness.calibration.rescaling import rescaled, rescaled_file
from harness.calibration.rows import spreads
from harness.corpus.samples import Corpus
from harness.errors import UsageError
from harness.mixed.assignment import Assignment
from harness.mixed.evaluate import Evaluator
from harness.mixed.gains import Gains
from harness.mixed.palette import Palette, mixed_file
from harness.mixed.plan import Plan, file_of, ranges_of
from harness.mixed.search import Settings, search
from harness.modelfile import prepare, read_facts, weighted_nodes
from harness.spec.calibration import Dialect, Method
from harness.spec.model import Axis, Bounds, Model
from harness.spec.shapes import bucket_names
from harness.trt_forms import aliases, for_parser, with_aliases

FLOOR = 1e-3
SOUND = Model(key="sound", axes=(Axis("x", 0),), axis_name="frames", minimum=4, maximum=64, opt=16, output="y")


def array(*shape):
    """Weights that go by their shape alone: whichever tests run before."""
    return (np.random.default_rng(shape).normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)


def made(nodes, constants, shape, outputs=("y",), opset=17):
    for number, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}{number}"
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {one.name: one for one in model.graph.value_info}
    for one in model.graph.output:
        if one.name in kinds:
            one.CopyFrom(kinds[one.name])
        elif not one.type.tensor_type.elem_type:
            one.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def rows_of(shape, *, loud=0):
    """Rows of very different size, one of them silent."""
    x = np.random.default_rng([7, *shape]).normal(size=shape).astype(np.float32)
    sizes = 10.0 ** np.linspace(-2, 1, shape[0])
    x *= sizes.reshape(-1, *[1] * (len(shape) - 1)).astype(np.float32) * 2.0**loud
    x[-1] = 0
    return x


def same(model, other, x):
    for before, after in zip(run(model, x), run(other, x), strict=True):
        assert before.shape == after.shape
        assert np.abs(before - after).max() <= 2e-5 * max(np.abs(before).max(), 1e-6)
        assert np.isfinite(after).all()


def node(operator, inputs, outputs, name="", **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), name, **attributes)


def spectrum(opset=17, bias=1.0):
    """x [frames, 1, 32] -> a filter bank -> its magnitude -> Conv "mel" with a bias -> Relu -> Conv "last"."""
    nodes = [
        node("Conv", "x bank", "c", "bank", strides=[4]),
        node("Slice", "c zero four one", "re"),
        node("Slice", "c four eight one", "im"),
        node("Pow", "re two", "re2"),
        node("Pow", "im two", "im2"),
        node("Add", "re2 im2", "power"),
        node("Sqrt", "power", "magnitude"),
        node("Conv", "magnitude w b", "mel", "mel", pads=[1, 1]),
        node("Relu", "mel", "r"),
        node("Conv", "r v", "y", "last"),
    ]
    whole = {name: np.array([value], np.int64) for name, value in (("zero", 0), ("one", 1), ("four", 4), ("eight", 8))}
    weights = {"bank": array(8, 1, 8), "w": array(6, 4, 3), "b": array(6) * np.float32(bias), "v": array(3, 6, 1)}
    constants = {**weights, **whole, "two": np.float32(2)}
    return made(nodes, constants, ["N", 1, 32], opset=opset)


def operators(model):
    return [one.op_type for one in model.graph.node]


@pytest.mark.parametrize("opset", [17, 18])
def test_one_division_serves_a_spectrum_and_what_reads_it(opset):
    model = spectrum(opset)
    other = rescaled(model, (("bank", FLOOR),))
    onnx.checker.check_model(other, full_check=True)
    same(model, other, rows_of((6, 1, 32)))
    kinds = operators(other)
    assert (kinds.count("Div"), kinds.count("Mul")) == (1, 1)
    assert kinds[-4:] == ["Mul", "Add", "Relu", "Conv"], "true values stand behind the second product, at its bias"
    (mel,) = (one for one in other.graph.node if one.name == "mel")
    assert len(mel.input) == 2


def test_each_of_two_tensors_has_a_scale_of_its_own():
    model = spectrum()
    other = rescaled(model, (("bank", FLOOR), ("mel", FLOOR)))
    onnx.checker.check_model(other, full_check=True)
    same(model, other, rows_of((6, 1, 32)))
    assert operators(other).count("Div") == 2
    backwards = rescaled(model, (("mel", FLOOR), ("bank", FLOOR)))
    same(model, backwards, rows_of((6, 1, 32)))


def test_what_cannot_be_negative_needs_no_magnitude():
    assert operators(rescaled(spectrum(), (("last", FLOOR),))).count("Abs") == 0
    assert operators(rescaled(spectrum(), (("bank", FLOOR),))).count("Abs") == 1


PLACES = {
    "residual": ([node("Conv", "x w b", "c", "first", pads=[1, 1]), node("Add", "c x", "y")],
                 {"w": array(3, 3, 3), "b": array(3)}, [4, 3, "L"]),
    "output within": ([node("Conv", "x w", "c", "first"), node("Relu", "c", "r"), node("Conv", "r v", "y")],
                      {"w": array(3, 3, 3), "v": array(2, 3, 1)}, [4, 3, "L"]),
    "transposed": ([node("ConvTranspose", "x w b", "y", "first", strides=[2])],
                   {"w": array(3, 5, 4), "b": array(5)}, [4, 3, "L"]),
    "planes": ([node("Conv", "x w b", "y", "first")], {"w": array(5, 3, 3, 2), "b": array(5)}, [4, 3, 9, "L"]),
    "product and bias": ([node("MatMul", "x w", "c", "first"), node("Add", "c b", "y")],
                         {"w": array(8, 5), "b": array(5)}, [4, "T", 8]),
    "two readers": ([node("MatMul", "x w", "c", "first"), node("MatMul", "x v", "d"), node("Mul", "c d", "y")],
                    {"w": array(8, 5), "v": array(8, 5)}, [4, "T", 8]),
    "chain": ([node("MatMul", "x w", "c", "first"), node("Relu", "c", "r"), node("MatMul", "r v", "d"),
               node("Sigmoid", "d", "y")], {"w": array(8, 5), "v": array(5, 5)}, [4, "T", 8]),
    "gemm": ([node("Gemm", "x w b", "y", "first", alpha=0.5, beta=3.0, transB=1)],
             {"w": array(5, 8), "b": array(1, 5)}, ["N", 8]),
    "two powers": ([node("Conv", "x w", "c", "first"), node("Mul", "c c", "p"), node("Conv", "p v b", "y")],
                   {"w": array(3, 3, 3), "v": array(2, 3, 1), "b": array(2)}, [4, 3, "L"]),
    "rank": ([node("Conv", "x w", "c", "first"), node("Unsqueeze", "c axis", "u"), node("Conv", "u v b", "y")],
             {"w": array(3, 3, 3), "axis": np.array([3]), "v": array(2, 3, 1, 1), "b": array(2)}, [4, 3, "L"]),
    "pooled": ([node("Pad", "x pads", "p"), node("Conv", "p w", "c", "first"), node("MaxPool", "c", "m",
               kernel_shape=[2]), node("Pad", "m pads", "q", mode="reflect"), node("Conv", "q v", "y")],
               {"w": array(3, 3, 3), "v": array(2, 3, 1), "pads": np.array([0, 0, 1, 0, 0, 1])}, [4, 3, "L"]),
}  # fmt: skip
SHAPES = {2: (4, 8), 3: (4, 3, 12), 4: (4, 3, 9, 7)}


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("place", list(PLACES))
def test_fp32_computes_what_it_did(place, opset):
    nodes, constants, shape = PLACES[place]
    copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in nodes]
    inner = ("c",) if place == "output within" else ()
    model = made(copies, constants, shape, ("y", *inner), opset)
    other = rescaled(model, (("first", FLOOR),))
    onnx.checker.check_model(other)
    x = rows_of((4, 6, 8) if shape[-1] == 8 and len(shape) == 3 else SHAPES[len(shape)])
    same(model, other, x)
    assert "Div" in operators(other)


@pytest.mark.parametrize("middle", [
    [node("Sigmoid", "c", "m")],
    [node("Add", "c number", "m")],
    [node("Max", "c number", "m")],
    [node("Pow", "c negative", "m")],
    [node("Transpose", "c", "m", perm=[1, 0, 2])],
    [node("Transpose", "c", "m")],
    [node("Slice", "c zero two zero", "m")],
    [node("ReduceMean", "c", "m", axes=[0])],
    [node("Pad", "c pads", "m")],
    [node("Pad", "c inside number", "m")],
    [node("Softmax", "c", "m")],
    [node("Concat", "c c", "m", axis=0)],
    [node("Exp", "c", "e"), node("Mul", "c e", "m")],
], ids=lambda nodes: "-".join(one.op_type for one in nodes))  # fmt: skip
def test_a_stretch_ends_at_what_is_not_homogeneous_or_mixes_rows(middle):
    constants = {
        "w": np.abs(array(4, 4, 3)), "v": array(4, 4, 1), "number": np.float32(0.3), "negative": np.float32(-1),
        "zero": np.array([0]), "two": np.array([2]), "pads": np.array([1, 0, 0, 0, 0, 0]),
        "inside": np.array([0, 0, 1, 0, 0, 1]),
    }  # fmt: skip
    copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in middle]
    model = made([node("Conv", "x w", "c", "first"), *copies, node("Conv", "m v", "y", "second")],
                 constants, [4, 4, "L"])  # fmt: skip
    other = rescaled(model, (("first", FLOOR),))
    same(model, other, np.abs(rows_of((4, 4, 10))) + 0.01)  # sums of one sign: nothing cancels, and 1 / c is well known
    kinds = operators(other)
    assert kinds.index("Conv") + 1 == kinds.index("Mul"), "true values stand right behind the first product"


def test_an_operand_that_was_made_on_the_way_has_true_values():
    """The slope is a product with a bias: neither a constant nor divided."""
    model = made([node("Conv", "x w b", "s", "first"), node("Conv", "x v", "c"), node("PRelu", "c s", "p"),
                  node("Conv", "p w", "y")], {"w": array(3, 3, 1), "v": array(3, 3, 1), "b": array(3)},
                 [4, 3, "L"])  # fmt: skip
    same(model, rescaled(model, (("first", FLOOR),)), rows_of((4, 3, 10)))


def test_a_number_with_more_axes_than_what_it_meets_ends_a_stretch():
    model = made([node("Conv", "x w", "c", "first"), node("Mul", "c k", "m"), node("Conv", "m v b", "y")],
                 {"w": array(4, 3, 3), "k": np.full((1, 1, 1, 1), 2, np.float32), "v": array(5, 4, 1, 1),
                  "b": array(5)}, [4, 3, "L"])  # fmt: skip
    same(model, rescaled(model, (("first", FLOOR),)), rows_of((4, 3, 10)))


def test_no_scale_is_squared():
    """In float16 the square may overflow, and what is 0 would become NaN."""
    nodes, constants, shape = PLACES["two powers"]
    model = made([onnx.NodeProto.FromString(one.SerializeToString()) for one in nodes], constants, shape)
    kinds = operators(rescaled(model, (("first", FLOOR),)))
    assert (kinds.count("Pow"), kinds.count("Mul")) == (0, 3)


LINKS = {
    "relu": lambda n: [node("Relu", f"t{n}", f"t{n + 1}")],
    "leaky": lambda n: [node("LeakyRelu", f"t{n}", f"t{n + 1}", alpha=0.3)],
    "sigmoid": lambda n: [node("Sigmoid", f"t{n}", f"t{n + 1}")],
    "bias": lambda n: [node("Add", f"t{n} b", f"t{n + 1}")],
    "double": lambda n: [node("Mul", f"t{n} half", f"t{n + 1}")],
    "square": lambda n: [node("Mul", f"t{n} t{n}", f"t{n + 1}")],
    "root": lambda n: [node("Abs", f"t{n}", f"a{n}"), node("Sqrt", f"a{n}", f"t{n + 1}")],
    "residual": lambda n: [node("Add", f"t{n} t0", f"t{n + 1}")],
    "conv": lambda n: [node("Conv", f"t{n} w b1", f"t{n + 1}", f"conv{n}", pads=[1, 1])],
    "plain": lambda n: [node("Conv", f"t{n} w", f"t{n + 1}", f"plain{n}", pads=[1, 1])],
    "slice": lambda n: [node("Slice", f"t{n} zero six two", f"s{n}"), node("Pad", f"s{n} pads", f"t{n + 1}")],
}


@given(links=st.lists(st.sampled_from(list(LINKS)), min_size=1, max_size=7), taken=st.sets(st.integers(0, 3)))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_chain_computes_what_it_did(links, taken):
    nodes = [node("Conv", "x w", "t0", "first", pads=[1, 1])]
    for number, link in enumerate(links):
        nodes += LINKS[link](number)
    nodes.append(node("Conv", f"t{len(links)} w b1", "y", "final", pads=[1, 1]))
    constants = {
        "w": array(4, 4, 3), "b": array(1, 4, 1), "b1": array(4), "half": np.float32(0.5), "zero": np.array([0]),
        "two": np.array([2]), "six": np.array([6]), "pads": np.array([0, 0, 0, 0, 0, 2]),
    }  # fmt: skip
    model = made(nodes, constants, [4, 4, 8])
    weighted = weighted_nodes(model)
    rows = tuple((name, FLOOR) for place, name in enumerate(weighted) if place in taken or place == 0)
    other = rescaled(model, rows)
    x = np.random.default_rng(8).normal(size=(4, 4, 8)).astype(np.float32) * np.float32([1, 0.3, 0.1, 0])[:, None, None]
    for before, after in zip(run(model, x), run(other, x), strict=True):
        assert np.abs(before - after).max() <= 1e-4 * max(np.abs(before).max(), 1e-6)


def test_a_node_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no weighted node 'gone'"):
        rescaled(spectrum(), (("gone", FLOOR),))


@pytest.mark.parametrize(("only", "weight"), [
    (node("Gemm", "x w", "y", "turned", transA=1), array(4, 3)),
    (node("MatMul", "x w", "y", "vector"), array(5)),
], ids=["turned", "vector"])  # fmt: skip
def test_what_reads_no_rows_is_left_alone(only, weight, tmp_path):
    model = made([onnx.NodeProto.FromString(only.SerializeToString())], {"w": weight}, [4, 5])
    with pytest.raises(UsageError, match="no weighted node"):
        rescaled(model, ((only.name, FLOOR),))
    onnx.save(model, tmp_path / "model.onnx")
    assert spreads(tmp_path / "model.onnx", [{"x": rows_of((4, 5))}]) == []


def test_how_far_rows_differ_in_size(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(made([node("MatMul", "x w", "y", "product")], {"w": array(4, 3)}, ["T", 4]), path)
    x = np.ones((6, 4), np.float32) * np.float32([8, 2, 2, 1, -0.5, 0])[:, None]
    (found,) = spreads(path, [{"x": x[:3]}, {"x": x[3:]}])
    assert (found.node, found.largest) == ("product", 8)
    assert found.bits == pytest.approx((0 + 2 + 2 + 3 + 4) / 5), "silence is not counted"
    assert found.row == ("product", 8 / 4096)
    (quiet,) = spreads(path, [{"x": x * np.float32(1e-5)}])
    assert quiet.row[1] == 2.0**-14, "in float16 a smaller one were no normal number"
    assert spreads(path, [{"x": x[:1]}]) == [], "one row differs from no other"
    assert spreads(path, [{"x": x[5:]}, {"x": x[5:]}]) == [], "silence has no size"


# -- on a model of sounds that differ by six bits ------------------------------------------------------------------


def sounds(seed, count):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        frames = int(draw.integers(4, 65))
        yield {"x": (draw.normal(size=(frames, 1, 32)) * 2.0 ** -draw.uniform(0, 8, (frames, 1, 1))).astype(np.float32)}


class Sounds:
    def __init__(self, folder, dialect):
        path = folder / "sound.onnx"
        onnx.save(spectrum(bias=1e-3), path)
        self.prepared, self.dialect = prepare(path, SOUND), dialect
        self.rows = tuple(sorted(one.row for one in spreads(self.prepared, sounds(1, 8)) if one.bits > 2))
        self.palette = self.made(())

    def made(self, rows):
        file = rescaled_file(self.prepared, rows)
        proto = onnx.load(file)
        nodes = weighted_nodes(proto)
        seen = observe(file, tensors_to_observe(proto, nodes, Dialect.U8S8), list(sounds(1, 16)))
        ranges = {one: choose(seen, Method.parse(one), self.dialect) for one in ("minmax", "percentile99.9")}
        return Palette.of(file, ranges, self.dialect, rows=rows, others=None if rows else self.made)

    def plan(self, assignment):
        one = self.palette.of_rows(assignment.rows)
        ranges = ranges_of(one.prepared, one.nodes, self.dialect, one.ranges, assignment)
        return Plan("sound", self.prepared.name, self.dialect, "minmax", assignment, ranges)


@pytest.fixture
def sound(tmp_path, own_cache, dialect):
    return Sounds(tmp_path, dialect)


def near(reference, candidate):
    """Share of frames that differ by less than a tenth of what they are."""
    before, after = reference["y"], candidate["y"]
    size, apart = ((one**2).sum((1, 2)) for one in (before, before - after))
    return float((apart < 0.01 * size).mean()), float(len(before))


SCORE = Score("near", near, lower_is_better=False)


def quiet_sqnr(prepared, file):
    """dB over frames that are 2^-6 of the loudest."""
    x = np.random.default_rng(9).normal(size=(64, 1, 32)).astype(np.float32) / 64
    before, after = run(prepared, x)[0], run(file, x)[0]
    return 10 * np.log10((before**2).sum() / ((before - after) ** 2).sum())


def test_quiet_rows_keep_their_codes(sound):
    plain, other = Assignment(), Assignment(rows=sound.rows)
    files = [file_of(sound.plan(one), sound.prepared) for one in (plain, other)]
    before, after = (quiet_sqnr(sound.prepared, file) for file in files)
    assert before < 15
    assert after > before + 15


def test_a_search_rescales_rows_where_nothing_else_helps(sound, tmp_path):
    corpus = Corpus.write(tmp_path / "corpus", SOUND, sounds(2, 24), "test")
    evaluator = Evaluator(sound.palette, sound.prepared, SOUND, corpus, "y", SCORE, tmp_path / "journal.jsonl")
    gains = Gains(dict.fromkeys(sound.palette.nodes, 1 / 3), "products")
    bounds = {name: Bounds(score=0.9) for name in bucket_names(SOUND)}
    without = search(evaluator, gains, Settings(bounds, keep=1.0), lambda _: 1.0)
    assert without.best.missed
    assert not without.best.assignment.rows
    found = search(evaluator, gains, Settings(bounds, keep=1.0, rows=sound.rows), lambda _: 1.0)
    assert found.best.assignment.rows
    assert not found.best.shortfall
    again = Evaluator(sound.palette, sound.prepared, SOUND, corpus, "y", SCORE, tmp_path / "journal.jsonl")
    assert search(again, gains, Settings(bounds, keep=1.0, rows=sound.rows), lambda _: 1.0) == found
    assert again.runs == 0


def test_rows_that_cost_too_much_are_not_rescaled(sound, tmp_path):
    corpus = Corpus.write(tmp_path / "corpus", SOUND, sounds(2, 12), "test")
    evaluator = Evaluator(sound.palette, sound.prepared, SOUND, corpus, "y", None)
    gains = Gains(dict.fromkeys(sound.palette.nodes, 1 / 3), "products")
    bounds = {name: Bounds(sqnr_db=70) for name in bucket_names(SOUND)}
    asked = Settings(bounds, keep=0.9, rows=sound.rows)
    found = search(evaluator, gains, asked, lambda one: 0.8 if one.rows else 1.0)
    assert any(one.assignment.rows for one in found.candidates)
    assert not found.best.assignment.rows


@pytest.mark.parametrize("version", ["8.5.3.1", "8.6.0", "10.3.0"])
def test_an_older_tensorrt_gets_the_same_file_in_its_form(tmp_path, own_cache, version):
    sound = Sounds(tmp_path, Dialect.S8S8)
    plan = sound.plan(Assignment(rows=sound.rows))
    source = rescaled_file(sound.prepared, plan.assignment.rows)
    form = for_parser(source, "tensorrt", version, SOUND, read_facts(sound.prepared))
    assert aliases(form)
    file = mixed_file(form, with_aliases(plan.ranges, form), plan.assignment, Dialect.S8S8)
    x = next(sounds(7, 1))["x"]
    one, other = run(file_of(plan, sound.prepared), x)[0], run(file, x)[0]
    assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()
    pairs = [sum(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)
             for path in (file, file_of(plan, sound.prepared))]  # fmt: skip
    assert pairs[0] == pairs[1]


def test_plans_tell_which_rows(sound):
    assignment = Assignment(rows=sound.rows).with_method("mel/rescaled", "minmax")
    assert Assignment.from_data(assignment.as_data()) == assignment
    for floor in ("loud", math.nan, 0.0, -1.0, math.inf):
        with pytest.raises((ValueError, TypeError)):
            Assignment.from_data({**assignment.as_data(), "rows": {"a": floor}})
    assert "rows" not in Assignment().as_data(), "journals and plans from before stay what they are"
