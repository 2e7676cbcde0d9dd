"""A user's own model as an entry: ``--model path.onnx --axis input:dim=name --range 16:2000 --data FOLDER``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.corpus.catalogue import Entry
from harness.corpus.fitting import Fitting
from harness.corpus.own_data import Source, open_source, split_of
from harness.corpus.synthetic import check_drawable, fill, synthetic_feeds, synthetic_stream
from harness.errors import DataError, UsageError, close_to
from harness.modelfile import check_axes, check_axis, read_facts, refuse_fixed, refuse_quantized
from harness.onnx_facts import listed, varying_axes
from harness.ready import check_same_interface, float_form, is_ready
from harness.spec.model import Axis, Bounds, Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds
    from harness.onnx_facts import ModelFacts, TensorFacts

__all__ = ["own_entry", "own_model"]

_AXIS = re.compile(r"(?P<input>.+):(?P<dim>[^:=]+?)(=(?P<name>[^=]+))?")
_RANGE = re.compile(r"(\d+):(?:(\d+):)?(\d+)")


def own_entry(
    path: str | Path,
    *,
    axes: Sequence[str],
    range_: str,
    data: str | Path | None = None,
    float_: str | Path | None = None,
    length_inputs: Sequence[str] = (),
    pads: Sequence[str] = (),
    constants: Sequence[str] = (),
    score: str = "",
    output: str = "",
    key: str = "",
    bounds: tuple[tuple[str, Bounds], ...] = (),
    gains: tuple[float, ...] = (1.0,),
) -> Entry:
    """A model that is not in the catalogue, with the user's samples or, without ``data``, random ones.

    :param path: the FP32 ONNX file; or one with Q/DQ, which then runs as it is.
    :param axes: ``input:dim=name``; ``dim`` is a number or the file's own symbol. Axes of one name follow one
        length, and so does every other dimension that has the same symbol in the file.
    :param range_: ``MIN:MAX`` or ``MIN:OPT:MAX``; without OPT the geometric middle is tuned for.
    :param data: a folder of ``.npz``, one a sample, or ``LOADER.py[:function]``; see
        :mod:`harness.corpus.own_data`, also for how samples are split. The seed changes nothing in them.
    :param float_: where ``path`` has Q/DQ: the FP32 file that it is held against; else its own graph without them.
    :param length_inputs: ``input=name``: an integer input that holds the number of valid elements; filled in
        where a sample leaves it out.
    :param pads: ``input=value``: what to write beyond the end of a padded sample (0 elsewhere).
    :param constants: ``input=value``, ``input=[1, 2]`` or ``input=file.npy``, for samples that leave it out;
        one number is spread over the input's shape.
    :param score: ``module:function``, see :mod:`harness.accuracy`.
    :param output: the output that is scored.
    :param key: the name in case ids; the file's name if empty.
    :param bounds: see :class:`harness.spec.model.Model`; :param gains: the same.
    :raises UsageError: an option that cannot be read or does not fit the file, which lists what would; without
        ``data``, a lone integer input that nothing sets.
    :raises ModelRefused: see :func:`harness.modelfile.inspect`.
    :raises DataError: the data are not there. A loader script is not run before its samples are wanted.
    """
    facts = read_facts(path)
    quantized = is_ready(facts)
    if not quantized:
        refuse_quantized(facts)
    baseline = _baseline(facts, float_) if float_ is not None else facts
    model = own_model(
        facts,
        axes=axes,
        range_=range_,
        length_inputs=length_inputs,
        pads=pads,
        score=score,
        output=output,
        key=key,
        bounds=bounds,
        gains=gains,
    )
    given = dict(_constant(facts, model, text) for text in constants)
    _refuse_both(model, given)
    options = [sorted(map(str, axes)), range_, *map(sorted, (length_inputs, pads, constants))]
    stamp = hashlib.sha256(json.dumps([facts.digest, *([baseline.digest] * (baseline is not facts)), options]).encode())
    for array in given.values():
        stamp.update(array.tobytes())
    without_qdq = quantized and baseline is facts
    files: dict[str, Any] = {
        "onnx": partial(float_form, facts.path) if without_qdq else lambda: baseline.path,
        "ready": (lambda: facts.path) if quantized else None,
        "without_qdq": without_qdq,
    }
    if data is None:
        check_drawable(model, facts.inputs, given)
        return Entry(
            model=model,
            **files,
            samples=partial(synthetic_stream, model, facts.inputs, given),
            version=stamp.hexdigest()[:16],
            synthetic=True,
            draw=partial(synthetic_feeds, model, facts.inputs, given),
        )
    source = open_source(data)
    stamp.update(source.version().encode())
    samples = _Samples(source, Fitting(model, facts.inputs, given))
    return Entry(
        model=model,
        **files,
        samples=samples,
        version=stamp.hexdigest()[:16],
        every=partial(samples, "all", 0),
        lasting=source.lasting,
    )


def own_model(
    facts: ModelFacts,
    *,
    axes: Sequence[str],
    range_: str,
    length_inputs: Sequence[str] = (),
    pads: Sequence[str] = (),
    score: str = "",
    output: str = "",
    key: str = "",
    bounds: tuple[tuple[str, Bounds], ...] = (),
    gains: tuple[float, ...] = (1.0,),
) -> Model:
    """A file's description from options, as in :func:`own_entry`; quantized files have one too.

    :raises UsageError, ModelRefused: see :func:`own_entry`.
    """
    found, name = _axes(facts, axes)
    low, opt, high = _range(range_)
    model = Model(
        key=_key(key, facts.path),
        axes=found,
        axis_name=name,
        minimum=low,
        maximum=high,
        opt=opt,
        length_inputs=tuple(_length_input(facts, text, name) for text in length_inputs),
        pad_values=tuple(_pad(facts, text) for text in pads),
        output=_output(facts, output),
        score=score,
        bounds=bounds,
        gains=gains,
    )
    check_axes(facts, model)
    return model


def _baseline(facts: ModelFacts, path: str | Path) -> ModelFacts:
    if not is_ready(facts):
        raise UsageError(
            f"{facts.path.name} has no Q/DQ, it is the FP32 model itself",
            where=f"--float {path}",
            todo="leave it out, or give the model with Q/DQ as the model",
        )
    found = read_facts(path)
    refuse_quantized(found)
    check_same_interface(facts, found)
    return found


@dataclass(frozen=True)
class _Samples:
    source: Source
    fitting: Fitting

    def __call__(self, split: str, seed: int) -> Iterator[Feeds]:
        del seed  # a user's samples are what they are
        return (self.fitting.fit(raw, where) for where, raw in split_of(self.source, split))


def _axes(facts: ModelFacts, texts: Sequence[str]) -> tuple[tuple[Axis, ...], str]:
    if not texts:
        refuse_fixed(facts)
        raise UsageError("which axis varies? none was named", where=str(facts.path), todo=f"give {_candidates(facts)}")
    found: dict[Axis, str] = {}
    for text in texts:
        match = _AXIS.fullmatch(text)
        if not match:
            raise UsageError(
                f"{text!r} is no axis",
                where="--axis",
                todo=f"write input:dim=name, for example --axis {_example_axis(facts)}",
            )
        tensor = facts.input(match["input"])
        dim = _dim(facts, tensor, match["dim"])
        check_axis(facts, Axis(tensor.name, dim))
        found[Axis(tensor.name, dim)] = match["name"] or _length_name(tensor, dim)
    names = sorted(set(found.values()))
    if len(names) > 1:
        raise UsageError(
            f"axes follow {len(names)} lengths: {', '.join(names)}",
            where="--axis",
            todo="this harness varies one length; give axes of one length the same name, leave out the others",
        )
    symbols = {facts.input(axis.input).dims[axis.dim] for axis in found} - {"?"}
    for tensor in facts.inputs:  # one symbol is one size, says the ONNX specification
        for index, symbol in enumerate(tensor.dims):
            if isinstance(symbol, str) and symbol in symbols:
                found.setdefault(Axis(tensor.name, index), names[0])
    return tuple(found), names[0]


def _candidates(facts: ModelFacts) -> str:
    return " or ".join(f"--axis {tensor.name}:{i}={_length_name(tensor, i)}" for tensor, i in varying_axes(facts))


def _length_name(tensor: TensorFacts, dim: int) -> str:
    symbol = str(tensor.dims[dim])
    return "length" if symbol == "?" else symbol


def _example_axis(facts: ModelFacts) -> str:
    varying = varying_axes(facts)
    return f"{varying[0][0].name}:{varying[0][1]}=length" if varying else "input:1=length"


def _dim(facts: ModelFacts, tensor: TensorFacts, text: str) -> int:
    count = len(tensor.dims)
    if text.lstrip("-").isdigit():
        if not -count <= int(text) < count:
            raise UsageError(
                f"input {tensor} has no dimension {text}",
                where=str(facts.path),
                todo=f"dimensions are counted from 0 to {count - 1}",
            )
        return int(text) % count
    if text in tensor.dims:
        return tensor.dims.index(text)
    close = close_to(text, [dim for dim in tensor.dims if isinstance(dim, str) and dim != "?"])
    vary = _candidates(facts)
    counted = f"give its number, 0 to {count - 1}" + (f"; what varies is {vary}" if vary else "")
    raise UsageError(
        f"input {tensor} has no dimension {text!r}",
        where=str(facts.path),
        todo=f"did you mean {close[0]!r}?" if close else counted,
    )


def _range(text: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is no range", where="--range", todo="write MIN:MAX or MIN:OPT:MAX, e.g. 16:2000")
    low, high = int(match[1]), int(match[3])
    return low, int(match[2]) if match[2] else round(math.sqrt(low * high)), high


def _assignment(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise UsageError(f"{text!r} is not {example}", where=option, todo=f"write {option} {example}")
    return name.strip(), value.strip()


def _length_input(facts: ModelFacts, text: str, axis_name: str) -> str:
    name, _, follows = text.partition("=")
    tensor = facts.input(name)
    if "int" not in tensor.dtype:
        raise UsageError(f"{tensor} holds no integers", where="--length-input", todo="name an integer input")
    if follows and follows != axis_name:
        raise UsageError(
            f"{name!r} follows {follows!r}, but the axis is named {axis_name!r}",
            where="--length-input",
            todo=f"--length-input {name}={axis_name}",
        )
    return name


def _pad(facts: ModelFacts, text: str) -> tuple[str, float]:
    name, value = _assignment(text, "--pad", "input=value")
    try:
        return facts.input(name).name, float(value)
    except ValueError:
        raise UsageError(f"{value!r} is no number", where=f"--pad {text}", todo="--pad mask=0") from None


def _constant(facts: ModelFacts, model: Model, text: str) -> tuple[str, NDArray[Any]]:
    name, value = _assignment(text, "--constant", "input=value")
    tensor = facts.input(name)
    if value.endswith(".npy"):
        try:
            array = np.load(value, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                "cannot be read as .npy", where=value, todo="write it with np.save", detail=str(error)
            ) from error
    else:
        try:
            array = np.asarray(json.loads(value))
        except ValueError:
            raise UsageError(
                f"{value!r} is no number, list or .npy file",
                where=f"--constant {text}",
                todo=f"--constant {name}=0, --constant '{name}=[1, 2]' or --constant {name}=file.npy",
            ) from None
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{value!r} is not numeric", where=f"--constant {text}", todo="give numbers")
    array = array.astype(tensor.dtype)
    fill(model, tensor, model.opt, array)
    return name, array


def _refuse_both(model: Model, constants: Mapping[str, NDArray[Any]]) -> None:
    for name in model.length_inputs:
        if name in constants:
            raise UsageError(
                f"{name!r} cannot follow the length and never vary",
                where=f"--length-input {name}, --constant {name}",
                todo=f"keep one: --length-input {name}={model.axis_name} if it counts valid elements, else --constant",
            )


def _output(facts: ModelFacts, name: str) -> str:
    names = [tensor.name for tensor in facts.outputs]
    if name and name not in names:
        close = close_to(name, names)
        raise UsageError(
            f"no output {name!r}",
            where=str(facts.path),
            todo=f"did you mean {close[0]!r}?" if close else f"the outputs are {listed(facts.outputs)}",
        )
    return name


def _key(key: str, path: Path) -> str:
    if key and not re.fullmatch(r"[a-z0-9_]+", key):
        raise UsageError(f"{key!r} is no key", where="--key", todo="use a-z, 0-9 and _")
    return key or re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "own"
