from __future__ import annotations

import itertools
import os
import pickle

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from harness.corpus.content import Draw, boundaries, content, make
from harness.corpus.own import own_entry
from harness.corpus.samples import Corpus, length_of
from harness.corpus.strategies import boundary_lengths, draws, feeds, lengths
from harness.errors import DataError, LengthOutOfRange, ModelRefused, UsageError
from harness.modelfile import prepare
from harness.spec.model import Axis
from harness.spec.shapes import Layout, Profile, geometric

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[B, T, 4] x, int64[B, T] mask, int32[B] xlen, float[2] state) => (float[B, T, 3] y)
<float[4, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}> {
  h = MatMul(x, w)
  m = Cast<to = 1>(mask)
  a = Constant<value = int64[1] {2}>()
  u = Unsqueeze(m, a)
  n = Cast<to = 1>(xlen)
  z = ReduceSum(n)
  s = ReduceSum(state)
  k = Mul(z, s)
  v = Mul(h, u)
  y = Add(v, k)
}"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), path)
    return path


def sample(length, **changes):
    random = np.random.default_rng(length)
    out = {"x": random.standard_normal((1, length, 4), np.float32), "mask": np.ones((1, length), np.int64)}
    out.update(changes)
    return {name: value for name, value in out.items() if value is not None}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for index, length in enumerate([5, 9, 7, 12, 16]):
        np.savez(folder / f"{index:03}.npz", **sample(length))
    return folder


def entry(model, data=None, **changes):
    options = {
        "axes": ["x:T=frames"],
        "range_": "4:8:20",
        "length_inputs": ["xlen=frames"],
        "pads": ["mask=0"],
        "constants": ["state=0.5"],
    }
    return own_entry(model, data=data, **{**options, **changes})


def taken(entry, split, count=100):
    return list(itertools.islice(entry.samples(split, 0), count))


def test_what_it_makes_of_the_options(model, folder):
    own = entry(model, folder)
    assert own.model.key == "model"
    assert (own.model.minimum, own.model.opt, own.model.maximum) == (4, 8, 20)
    # mask has the symbol T too, so it follows without being named
    assert own.model.axes == (Axis("x", 1), Axis("mask", 1))
    assert own.model.axis_name == "frames"
    assert own.model.length_inputs == ("xlen",)
    assert own.model.pad_values == (("mask", 0.0),)
    assert not own.synthetic
    assert own.draw is None
    assert entry(model, folder, range_="4:16").model.opt == 8  # geometric middle
    assert prepare(own.onnx(), own.model).exists()


def test_splits_share_nothing_and_lose_nothing(model, folder):
    own = entry(model, folder)
    assert [length_of(own.model, f) for f in taken(own, "calibration")] == [5, 7, 16]
    assert [length_of(own.model, f) for f in taken(own, "test")] == [9, 12]
    first = taken(own, "calibration")[0]
    assert list(first) == ["x", "mask", "xlen", "state"]
    assert first["xlen"].dtype == np.int32
    assert first["xlen"].tolist() == [5]
    np.testing.assert_array_equal(first["state"], np.full(2, 0.5, np.float32))
    np.testing.assert_array_equal(first["x"], sample(5)["x"])


def test_a_lone_sample_serves_both_and_says_so(model, folder):
    own = entry(model, folder / "001.npz")
    assert len(taken(own, "calibration")) == 1
    with pytest.warns(UserWarning, match="only one sample"):
        assert len(taken(own, "test")) == 1


def test_version_follows_the_model_the_options_and_the_data(model, folder):
    before = entry(model, folder).version
    assert entry(model, folder).version == before
    assert entry(model, folder, range_="4:9:20").version != before
    assert entry(model, folder, constants=["state=0.6"]).version != before
    np.savez(folder / "zzz.npz", **sample(6))
    assert entry(model, folder).version != before


@pytest.mark.parametrize(
    ("changes", "what", "todo"),
    [
        ({"axes": ["X:1=n"]}, "no input 'X'", "did you mean 'x'"),
        ({"axes": ["x:3=n"]}, "no dimension 3", "0 to 2"),
        ({"axes": ["x:t=n"]}, "no dimension 't'", "did you mean 'T'"),
        ({"axes": ["x"]}, "no axis", "--axis x:1=length"),
        ({"axes": ["x:2=n"]}, "fixed to 4", "x:1 (T)"),
        ({"axes": ["x:1=n", "mask:1=m"]}, "2 lengths: m, n", "same name"),
        ({"axes": []}, "which axis varies", "--axis x:1=T or --axis mask:1=T"),
        ({"range_": "4-20"}, "no range", "MIN:MAX"),
        ({"range_": "20:4"}, "not 1 <= min", "growing order"),
        ({"length_inputs": ["xlem"]}, "no input 'xlem'", "did you mean 'xlen'"),
        ({"length_inputs": ["x"]}, "no integers", "integer input"),
        ({"length_inputs": ["xlen=n"]}, "follows 'n'", "xlen=frames"),
        ({"pads": ["mask"]}, "not input=value", "--pad input=value"),
        ({"pads": ["mask=no"]}, "no number", "--pad mask=0"),
        ({"constants": ["state=abc"]}, "no number, list or .npy", "state=file.npy"),
        ({"output": "z"}, "no output 'z'", "y: float32"),
        ({"key": "My Model"}, "no key", "a-z"),
    ],
)
def test_wrong_options(model, changes, what, todo):
    with pytest.raises(UsageError) as error:
        entry(model, **changes)
    assert what in error.value.what
    assert todo in error.value.todo


def test_wrong_constants_and_models(model, tmp_path):
    with pytest.raises(DataError, match=r"shape \(3,\) does not fit"):
        entry(model, constants=["state=[1, 2, 3]"])
    with pytest.raises(DataError, match=r"\.npy"):
        entry(model, constants=[f"state={tmp_path / 'none.npy'}"])
    np.save(tmp_path / "state.npy", np.array([3.0, 4.0]))
    own = entry(model, constants=[f"state={tmp_path / 'state.npy'}"])
    np.testing.assert_array_equal(taken(own, "test", 1)[0]["state"], np.array([3, 4], np.float32))
    fixed = tmp_path / "fixed.onnx"
    onnx.save(onnx.parser.parse_model(MODEL.replace("B, T", "1, 9").replace("[B]", "[1]")), fixed)
    for axes in ([], ["x:1=n"]):
        with pytest.raises(ModelRefused, match="no varying axis"):
            entry(fixed, axes=axes)


CONV = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 80, {t}] feats, int32{shape} feats_len) => (float[1, 2, U] y)
<float[2, 80, 1] w = {{{weights}}}> {{
  h = Conv(feats, w)
  n = Cast<to = 1>(feats_len)
  s = ReduceSum(n)
  y = Mul(h, s)
}}"""


@pytest.fixture
def encoder(tmp_path):
    def make_one(t="T", shape="[1]", name="encoder.onnx"):
        weights = ", ".join("1" for _ in range(160))
        onnx.save(onnx.parser.parse_model(CONV.format(t=t, shape=shape, weights=weights)), tmp_path / name)
        return tmp_path / name

    return make_one


def encoded(path, **changes):
    return own_entry(path, **{"axes": ["feats:2=frames"], "range_": "16:900", **changes})


@pytest.mark.parametrize("shape", ["[1]", "[B]", ""])
def test_a_lone_integer_that_nothing_sets_is_asked_about(encoder, shape):
    path = encoder(shape=shape)
    with pytest.raises(UsageError, match="feats_len is an integer that nothing sets: is it a length") as error:
        encoded(path)
    assert error.value.todo == "--length-input feats_len=frames, or --constant feats_len=VALUE"
    followed = taken(encoded(path, length_inputs=["feats_len=frames"]), "test", 1)[0]
    assert followed["feats_len"].ravel().tolist() == [followed["feats"].shape[2]]
    assert taken(encoded(path, constants=["feats_len=7"]), "test", 1)[0]["feats_len"].ravel().tolist() == [7]
    assert taken(encoded(path, pads=["feats_len=0"]), "test", 1)[0]["feats_len"].ravel().tolist() == [1]


def test_integers_that_are_no_lone_one_are_drawn(encoder):
    assert taken(encoded(encoder(shape="[1, T]")), "test", 1)[0]["feats_len"].size > 1  # it varies
    assert taken(encoded(encoder(shape="[2]")), "test", 1)[0]["feats_len"].shape == (2,)


def test_a_sample_without_its_lone_integer_is_pointed_to_the_length_first(encoder, tmp_path):
    np.savez(tmp_path / "one.npz", feats=np.ones((1, 80, 20), np.float32))
    with pytest.raises(DataError, match="no array for input feats_len") as error:
        taken(encoded(encoder(), data=tmp_path / "one.npz"), "calibration")
    length, constant = map(error.value.todo.index, ("--length-input feats_len=frames", "--constant feats_len=VALUE"))
    assert length < constant


def test_a_length_input_is_no_constant(encoder):
    with pytest.raises(UsageError, match="'feats_len' cannot follow the length and never vary") as error:
        encoded(encoder(), length_inputs=["feats_len=frames"], constants=["feats_len=7"])
    assert "--length-input feats_len=frames" in error.value.todo


def test_an_axis_that_is_not_there_names_what_varies(encoder):
    with pytest.raises(UsageError, match="no dimension 'X'") as error:
        encoded(encoder(), axes=["feats:X=frames"])
    assert error.value.todo == "give its number, 0 to 2; what varies is --axis feats:2=T"


def test_a_dimension_without_a_name_is_hinted_as_a_length(encoder):
    path = encoder()
    anonymous = onnx.load(path)
    anonymous.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    onnx.save(anonymous, path)
    for axes in ([], ["feats:X=frames"]):
        with pytest.raises(UsageError) as error:
            encoded(path, axes=axes)
        assert error.value.todo.endswith("--axis feats:2=length")
    assert encoded(path, axes=["feats:2"], constants=["feats_len=7"]).model.axis_name == "length"


def nan(array):
    array[0, 1, 2] = np.nan
    return array


@pytest.mark.parametrize(
    ("bad", "what", "todo"),
    [
        ({"x": None, "X": sample(6)["x"]}, "'X' is no input", "name it 'x'"),
        ({"x": None}, "no array for input x", "--constant x=VALUE"),
        ({"x": sample(6)["x"].astype(np.float64)}, "float64, the model takes float32", "x.astype(np.float32)"),
        ({"mask": np.ones((1, 6), np.int32)}, "int32, the model takes int64", "mask.astype(np.int64)"),
        ({"x": sample(6)["x"][0]}, "shape (6, 4)", "array[None]"),
        ({"x": sample(6)["x"][..., :3]}, "dimension 2 must be 4", "reshape"),
        ({"mask": np.ones((1, 5), np.int64)}, "disagree", ""),
        ({"x": nan(sample(6)["x"])}, "1 NaN value of 24", "leave the sample out"),
        ({"x": np.full((1, 6, 4), np.inf, np.float32)}, "24 infinite values", "leave"),
        (sample(21), "21 frames, outside the range 4..20", "widen --range"),
        ({"xlen": np.array([7], np.int32)}, "'xlen' holds [7]", "1..6"),
    ],
)
def test_samples_that_do_not_fit(model, folder, bad, what, todo):
    np.savez(folder / "002.npz", **sample(6, **bad))
    stream = entry(model, folder).samples("calibration", 0)
    next(stream)  # the good ones before it come out
    with pytest.raises(DataError) as error:
        next(stream)
    assert what in error.value.what
    assert todo in error.value.todo
    assert error.value.where == str(folder / "002.npz")


def test_pickles_are_not_opened(model, folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / "exploded"),)

    np.savez(folder / "000.npz", x=np.array([Bomb()], object), mask=np.ones((1, 5), np.int64))
    with pytest.raises(DataError, match="pickled"):
        taken(entry(model, folder), "calibration")
    (folder / "000.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"pickled|cannot be read"):
        taken(entry(model, folder), "calibration")
    assert not (folder / "exploded").exists()


def test_damaged_empty_and_missing_data(model, folder, tmp_path):
    whole = (folder / "000.npz").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"not a zip at all"):
        (folder / "000.npz").write_bytes(broken)
        with pytest.raises(DataError, match=r"cannot be read|pickled"):
            taken(entry(model, folder), "calibration")
    with pytest.raises(DataError, match="no such file") as error:
        entry(model, tmp_path / "dato")
    assert str(folder) in error.value.todo
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        entry(model, tmp_path / "empty")
    (tmp_path / "empty" / "a.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"it holds \.wav"):
        entry(model, tmp_path / "empty")
    with pytest.raises(DataError, match=r"data of type '\.wav'"):
        entry(model, tmp_path / "empty" / "a.wav")


LOADER = """
import numpy as np
from near_by import LENGTHS

def load_data():
    for length in LENGTHS:
        yield {"x": np.full((1, length, 4), length, np.float32), "mask": np.ones((1, length), dtype=np.int64)}

def broken():
    yield from load_data()
    raise KeyError("no such recording")

def endless():
    while True:
        yield from load_data()

def other():
    return [np.zeros(3)]

def lists():
    return [{"x": [1.0, 2.0], "mask": np.ones((1, 2), dtype=np.int64)}]
"""


@pytest.fixture
def loader(tmp_path):
    (tmp_path / "near_by.py").write_text("LENGTHS = [5, 9, 7, 12]\n")
    path = tmp_path / "loader.py"
    path.write_text(LOADER)
    return path


def test_a_polygraphy_script_works_as_it_is(model, loader):
    own = entry(model, loader)
    assert [length_of(own.model, f) for f in taken(own, "calibration")] == [5, 7]
    assert [length_of(own.model, f) for f in taken(own, "test")] == [9, 12]
    assert len(taken(entry(model, f"{loader}:endless"), "test", 10)) == 10


def test_errors_in_the_script_are_shown_as_its_own(model, loader, monkeypatch):
    with pytest.raises(DataError, match=r"KeyError.*no such recording") as error:
        taken(entry(model, f"{loader}:broken"), "calibration")
    assert "sample 4" in error.value.where
    assert "in broken" in error.value.detail
    assert "own_data.py" not in error.value.detail  # none of our frames
    monkeypatch.chdir(loader.parent)
    with pytest.raises(DataError, match=r"KeyError.*no such recording") as error:
        taken(entry(model, f"{loader.name}:broken"), "calibration")
    assert "in broken" in error.value.detail
    assert "own_data.py" not in error.value.detail
    with pytest.raises(DataError, match="no function 'load_date'"):
        taken(entry(model, f"{loader}:load_date"), "calibration")
    with pytest.raises(DataError, match="gave ndarray, not a dict"):
        taken(entry(model, f"{loader}:other"), "calibration")
    with pytest.raises(DataError, match="is a list, not an array") as error:
        taken(entry(model, f"{loader}:lists"), "calibration")
    assert error.value.todo == "np.asarray(x, dtype=np.float32)"
    loader.write_text("def load_data(:\n")
    with pytest.raises(DataError, match="SyntaxError"):
        taken(entry(model, loader), "calibration")
    loader.write_text("def load_data():\n    return []\n")
    with pytest.raises(DataError, match="no samples"):
        taken(entry(model, loader), "calibration")


def test_a_script_is_not_run_before_its_samples_are_wanted_and_none_of_them_last(model, loader, folder):
    loader.write_text("raise SystemExit('was run')\n")
    own = entry(model, loader)
    assert not own.lasting
    assert entry(model, folder).lasting
    assert entry(model).lasting
    with pytest.raises(DataError, match="was run"):
        taken(own, "calibration")
    before = own.version
    loader.write_text("pass\n")
    assert entry(model, loader).version != before


UNSEEDED = """
import numpy as np
random = np.random.default_rng(int(np.load({number!r})))
def load_data():
    for i in range(40):
        value = random.standard_normal() if i >= {same} else 0.0
        yield {{"x": np.full((1, 5, 4), value, np.float32), "mask": np.ones((1, 5), dtype=np.int64)}}
"""


@pytest.mark.parametrize("same", [0, 35])
def test_a_script_that_gives_other_samples_each_time_is_told_of(model, tmp_path, same):
    np.save(tmp_path / "seed.npy", 1)
    path = tmp_path / "unseeded.py"
    path.write_text(UNSEEDED.format(number=str(tmp_path / "seed.npy"), same=same))
    own = entry(model, path)
    taken(own, "calibration")
    taken(own, "test")  # the same so far
    np.save(tmp_path / "seed.npy", 2)
    with pytest.warns(UserWarning, match=f"other samples than the last time .from sample {same} on") as told:
        taken(own, "calibration")
    assert len(told) == 1


def test_a_script_that_ends_early_the_second_time_is_told_of(model, loader):
    own = entry(model, loader)
    taken(own, "calibration")
    loader.write_text(LOADER.replace("from near_by import LENGTHS", "LENGTHS = [5, 9]"))
    with pytest.warns(UserWarning, match="from sample 2 on"):
        taken(own, "calibration")


def test_one_sample_at_a_time(model, tmp_path):
    path = tmp_path / "counting.py"
    path.write_text(
        "import numpy as np\nmade = []\n"
        "def load_data():\n"
        "    for i in range(1000):\n"
        "        made.append(i)\n"
        "        yield {'x': np.zeros((1, 5, 4), np.float32), 'mask': np.ones((1, 5), np.int64), 'n': made[-1:]}\n"
    )
    from harness.corpus.own_data import open_source, split_of

    stream = split_of(open_source(path), "test")
    next(stream)
    assert next(stream)[1]["n"] == [3]


def test_without_data_samples_are_drawn_and_said_to_be(model):
    own = entry(model)
    assert own.synthetic
    calibration, test = taken(own, "calibration", 50), taken(own, "test", 50)
    again = taken(own, "calibration", 50)
    for one, two in zip(calibration, again, strict=True):
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not any(one["x"].tobytes() == two["x"].tobytes() for one, two in zip(calibration, test, strict=True))
    other_seed = next(own.samples("calibration", 1))
    assert other_seed["x"].tobytes() != calibration[0]["x"].tobytes()
    seen = [length_of(own.model, sample) for sample in calibration + test]
    assert min(seen) < 6
    assert max(seen) > 16
    assert all(4 <= length <= 20 for length in seen)
    for feeds_ in calibration:
        length = length_of(own.model, feeds_)
        assert feeds_["xlen"].tolist() == [length]
        assert feeds_["mask"].dtype == np.int64
        assert (feeds_["mask"] == 1).all()
        assert (feeds_["state"] == 0.5).all()


LAYOUT = Layout("two", (Profile(4, 6, 8), Profile(9, 12, 20)))


def test_lengths_reach_every_profile_and_shrink_to_the_shortest():
    strategy = lengths(LAYOUT)
    assert find(strategy, lambda n: n > 0) == 4
    assert find(strategy, lambda n: n >= 9) == 9
    assert find(strategy, lambda n: n == 20) == 20


def test_boundaries_hold_both_sides():
    assert boundaries(LAYOUT) == (3, 4, 6, 8, 9, 12, 20, 21)
    with pytest.raises(LengthOutOfRange):
        LAYOUT.dispatch(find(boundary_lengths(LAYOUT), lambda n: n > 20))


@pytest.fixture
def corpus(model, folder, tmp_path):
    own = entry(model, folder)
    return Corpus.write(tmp_path / "corpus", own.model, own.samples("calibration", 0), "test")


def test_content_is_cut_or_repeated_from_real_samples(model, corpus):
    shape = entry(model).model
    short = content(shape, corpus, 4, index=2, offset=1)
    np.testing.assert_array_equal(short["x"], sample(16)["x"][:, 1:5])
    long = content(shape, corpus, 12, index=3, gain=2.0)  # index wraps: sample 0, length 5
    np.testing.assert_array_equal(long["x"][:, 5:10], 2 * sample(5)["x"])
    assert long["x"].shape == (1, 12, 4)
    assert long["xlen"].tolist() == [12]
    assert long["mask"].dtype == np.int64


def test_a_failing_example_is_run_again_from_its_numbers(model, corpus):
    own = entry(model)
    for source in (corpus, None):
        draw = find(draws(LAYOUT, source), lambda draw: draw.length >= 9)
        assert draw == Draw(length=9)
        once, twice = make(draw, own, source), make(eval(repr(draw)), own, source)
        assert all(np.array_equal(once[name], twice[name]) for name in once)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_feeds_are_always_served(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    onnx.save(onnx.parser.parse_model(MODEL), folder / "model.onnx")
    own = entry(folder / "model.onnx")
    layout = geometric(own.model, data.draw(st.integers(1, 4)))
    drawn = data.draw(feeds(own, layout, None))
    length = length_of(own.model, drawn)
    assert layout.dispatch(length) < len(layout.profiles)
    assert drawn["xlen"].tolist() == [length]
