"""What a model's file says about itself, as far as a ``[[models]]`` table asks: found by reading it and by running it.

Names decide nothing that the graph or a run can decide. What is left to a name is said to be a guess.
"""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.corpus.own import own_entry
from harness.corpus.own_data import open_source
from harness.corpus.samples import length_of
from harness.corpus.trial import Found, Trial
from harness.errors import ModelRefused
from harness.modelfile import prepare, refuse_fixed, refuse_quantized
from harness.onnx_facts import leads_to, listed, read_facts, varying_axes
from harness.ready import float_form, is_ready
from harness.spec.model import Axis, Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.corpus.catalogue import Entry
    from harness.onnx_facts import ModelFacts, TensorFacts

__all__ = ["Found", "Proposal", "propose"]

_BATCH = re.compile(r"n|b|bs|batch.*|n_?batch|.*batch_?size", re.IGNORECASE)
_CACHE = re.compile(r".*(past|cache|state|mem(ory)?)(_|\b|\.).*", re.IGNORECASE)
_LENGTH = re.compile(r".*(len|lens|lengths?|sizes?|num_?\w+|n_\w+)", re.IGNORECASE)
_RATE = re.compile(r"sr|.*sampl\w*_?rate|rate|fs", re.IGNORECASE)
_COMPARED = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Range", "Tile", "Expand", "Slice", "Pad", "Min"}
_SELECTS = {"Gather", "Equal", "If", "OneHot", "Not"}
_LARGEST = 2**31 - 1
_SCANNED = 4096


@dataclass(frozen=True)
class _Kind:
    """What sort of thing varies, by the tensor that holds it; only words and the first range follow from it."""

    unit: str
    shortest: int
    longest: int


_IDS = _Kind("tokens", 8, 512)
_FRAMES = _Kind("frames", 16, 2000)
_SIGNAL = _Kind("samples", 1600, 160_000)
_PICTURE = _Kind("width", 32, 1024)


@dataclass(frozen=True)
class Proposal:
    """A ``[[models]]`` table that its model and data agree with.

    :param axes: ``input:dim=name``, every input that follows the length.
    :param range: ``MIN:OPT:MAX``, and ``range_why`` where it is from.
    :param late: inputs that are no length, no constant and do not follow it: every sample has to bring them.
    :param held: ``input:dim`` of dimensions that vary in the file and are held at 1, with the reason.
    :param entry: the model as the harness reads it; accepted, and run once at both ends of the range.
    """

    facts: ModelFacts
    axes: tuple[Found, ...]
    range: str
    range_why: str
    length_inputs: tuple[Found, ...]
    constants: tuple[Found, ...]
    late: tuple[TensorFacts, ...]
    held: tuple[Found, ...]
    data: str | None
    entry: Entry


def propose(path: Path | str, *, data: str | None = None, range_: str = "", axes: Sequence[str] = ()) -> Proposal:
    """Read a file, run it in ONNX Runtime at a few lengths, and look through the data where there are some.

    :param data: see :func:`harness.corpus.own.own_entry`; the range is then that of the data.
    :param range_: what is served; found where empty. :param axes: what varies; found where empty.
    :raises UsageError, ModelRefused, DataError: see :func:`harness.modelfile.prepare` and
        :func:`harness.corpus.own.own_entry`; no arrangement of the axes makes the model run.
    """
    facts = read_facts(path)
    if not is_ready(facts):
        refuse_quantized(facts)
    refuse_fixed(facts)
    prepare(float_form(facts.path) if is_ready(facts) else facts.path)
    trial = Trial(facts)
    named = _named(facts, axes) if axes else None
    groups = [named.axes] if named else _groups(facts)
    lone, states = _lone(facts, groups), _states(facts, groups)
    lengths = [found for found in lone if found.option.partition("=")[2] == ""]
    constants = [*(found for found in lone if found not in lengths), *states]
    trial.values.update((name, float(value)) for name, _, value in (f.option.partition("=") for f in constants))
    trial.following.update(found.option for found in lengths)

    main, why = _together(trial, groups)
    kind = _kind(facts.input(main[0].input), main[0].dim)
    constants += trial.settle(main, kind.shortest, kind.longest)
    unit = named.axis_name if named else _unit(facts, main[0], kind)
    if data is not None:
        constants += _missing(data, facts, {found.option.partition("=")[0] for found in (*lengths, *constants)})
    spelled = tuple(Found(f"{axis.input}:{axis.dim}={unit}", why.get(axis, "")) for axis in main)
    following = tuple(Found(f"{found.option}={unit}", found.why) for found in lengths)

    def entry(text: str) -> Entry:
        return own_entry(
            facts.path, axes=[one.option for one in spelled], range_=text, data=data,
            length_inputs=[one.option for one in following], constants=[one.option for one in constants],
        )  # fmt: skip

    if range_:
        text, range_why = range_, "as you gave it"
    elif data is not None:
        text, range_why = _range_of_data(entry(f"1:{_LARGEST}"))
    else:
        low, high, range_why = trial.range(main, kind.shortest, kind.longest)
        text = f"{low}:{round(math.sqrt(low * high))}:{high}"
    known = {axis.input for axis in main} | {one.option.partition("=")[0] for one in (*following, *constants)}
    return Proposal(
        facts=facts,
        axes=spelled,
        range=text,
        range_why=range_why,
        length_inputs=following,
        constants=tuple(constants),
        late=tuple(tensor for tensor in facts.inputs if tensor.name not in known),
        held=tuple(_held(facts, main)),
        data=data,
        entry=entry(text),
    )


def _groups(facts: ModelFacts) -> list[tuple[Axis, ...]]:
    """Dimensions that are one size by their symbol, the likeliest first; one without a name stands alone.

    Caches and what is named as a batch come last; of a picture the width, for that is what lines of text vary in.
    """
    found: dict[object, list[Axis]] = {}
    for tensor, dim in varying_axes(facts):
        symbol = tensor.dims[dim]
        found.setdefault((tensor.name, dim) if symbol == "?" else symbol, []).append(Axis(tensor.name, dim))

    def rank(axes: list[Axis]) -> tuple[bool, bool, int]:
        tensor = facts.input(axes[0].input)
        symbol = str(tensor.dims[axes[0].dim])
        cache = bool(_CACHE.fullmatch(f"{symbol} ") or _CACHE.fullmatch(f"{tensor.name} "))
        # Stable otherwise: the order of the file's inputs, and the last dimension of a picture before the others.
        return bool(_BATCH.fullmatch(symbol)), cache, -axes[0].dim if len(tensor.dims) == 4 else 0

    return [tuple(axes) for axes in sorted(found.values(), key=rank)]


def _named(facts: ModelFacts, texts: Sequence[str]) -> Model:
    """What the user named; it is checked, and completed by the file's symbols, as the suites do it."""
    return own_entry(facts.path, axes=texts, range_="1:1", constants=_any_value(facts)).model


def _any_value(facts: ModelFacts) -> list[str]:
    """So that no lone integer is asked about before it has been looked at."""
    return [
        f"{t.name}=1" for t in facts.inputs if "int" in t.dtype and all(d == 1 or isinstance(d, str) for d in t.dims)
    ]


def _lone(facts: ModelFacts, groups: Sequence[tuple[Axis, ...]]) -> list[Found]:
    """Integers of one element: the length of the sample, or a switch. ``name`` is a length, ``name=1`` a value."""
    varying = {axis.input for group in groups for axis in group}
    found = []
    for tensor in facts.inputs:
        ones = all(dim == 1 or isinstance(dim, str) for dim in tensor.dims)
        if tensor.name in varying or not ones or not ("int" in tensor.dtype or tensor.dtype == "bool"):
            continue
        into = leads_to(facts.path, tensor.name, _COMPARED | _SELECTS)
        named = f"the name is a guess: nothing in the graph tells what {tensor.name!r} does"
        if tensor.dtype == "bool":
            found.append(Found(f"{tensor.name}=1", "a switch; 1 is a guess"))
        elif into & _COMPARED and not into & _SELECTS:
            found.append(Found(tensor.name, f"the graph uses it as a size ({', '.join(sorted(into & _COMPARED))})"))
        elif into & _SELECTS:
            value = 16_000 if _RATE.fullmatch(tensor.name) else 0
            found.append(Found(f"{tensor.name}={value}", f"it selects ({', '.join(sorted(into))}); {value} is a guess"))
        elif _LENGTH.fullmatch(tensor.name):
            found.append(Found(tensor.name, named))
        else:
            found.append(Found(f"{tensor.name}=1", named))
    return found


def _states(facts: ModelFacts, groups: Sequence[tuple[Axis, ...]]) -> list[Found]:
    """Floats of a fixed size that come out again with the same shape: a recurrent state, which begins at 0."""
    varying = {axis.input for group in groups for axis in group}
    outputs = [(tensor.dtype, len(tensor.dims), tensor.dims[-1:]) for tensor in facts.outputs]
    return [
        Found(f"{tensor.name}=0", "a state: an output has its shape; it begins at 0")
        for tensor in facts.inputs
        if tensor.name not in varying
        and tensor.dtype.startswith("float")
        and len(tensor.dims) > 1
        and isinstance(tensor.dims[-1], int)
        and (tensor.dtype, len(tensor.dims), tensor.dims[-1:]) in outputs
    ]


def _together(trial: Trial, groups: Sequence[tuple[Axis, ...]]) -> tuple[tuple[Axis, ...], dict[Axis, str]]:
    """The axes that follow one length, and why those that are not of the first one's symbol do.

    Two symbols, or none, are one length where the model runs with both equal and does not with both different.

    :raises ModelRefused: it runs neither way.
    """
    first, *others = groups
    if not others:
        return first, {}
    rest = [
        group for group in others if not _BATCH.fullmatch(str(trial.facts.input(group[0].input).dims[group[0].dim]))
    ]
    every = [axis for group in (first, *rest) for axis in group]
    size = trial.a_size(every)
    if size is None:
        for group in groups:
            if trial.a_size(group) is not None:
                return group, {}
        named = ", ".join(f"{axis.input}:{axis.dim}" for axis in every)
        raise ModelRefused(
            f"it runs at no length that was tried, whichever of {named} varies",
            where=str(trial.facts.path),
            todo=f"its inputs are {listed(trial.facts.inputs)}; write the table by hand (docs/guide/own-model.md)",
            detail=trial.said,
        )
    joined = list(first)
    why: dict[Axis, str] = {}
    for group in rest:
        alone = dict.fromkeys(group, 2 * size)
        if not trial.runs({**dict.fromkeys(every, size), **alone}):
            joined += group
            symbol = trial.facts.input(group[0].input).dims[group[0].dim]
            named = "without a name" if symbol == "?" else f"called {str(symbol)!r}"
            why |= dict.fromkeys(group, f"{named} in the file; the model runs only where it is equal")
    return tuple(joined), why


def _kind(tensor: TensorFacts, dim: int) -> _Kind:
    fixed = [size for index, size in enumerate(tensor.dims) if index != dim and isinstance(size, int)]
    if "int" in tensor.dtype:
        return _IDS
    if len(tensor.dims) == 4 and dim >= 2 and fixed and fixed[-1] < 256:
        return _PICTURE
    return _FRAMES if any(size > 2 for size in fixed) else _SIGNAL


def _unit(facts: ModelFacts, axis: Axis, kind: _Kind) -> str:
    symbol = str(facts.input(axis.input).dims[axis.dim])
    return symbol if re.fullmatch(r"[A-Za-z_]\w*", symbol) and len(symbol) > 1 else kind.unit


def _held(facts: ModelFacts, main: Sequence[Axis]) -> Iterable[Found]:
    """Every other open dimension: the harness varies one length."""
    following = {(axis.input, axis.dim) for axis in main}
    vary = {(tensor.name, dim) for tensor, dim in varying_axes(facts)}
    for tensor in facts.inputs:
        for dim, size in enumerate(tensor.dims):
            if isinstance(size, str) and (tensor.name, dim) not in following:
                batch = (tensor.name, dim) not in vary or _BATCH.fullmatch(size)
                why = "the batch" if batch else "varies too, by itself; one length varies here"
                yield Found(f"{tensor.name}:{dim}", why)


def _missing(data: str, facts: ModelFacts, known: set[str]) -> list[Found]:
    """Inputs that the first sample does not have and that nothing else sets."""
    first = next((set(raw) for _, raw in open_source(data).read(slice(0, 1))), None)
    absent = [t.name for t in facts.inputs if first is not None and t.name not in known | first]
    return [Found(f"{name}=0", "the first sample has no such array; 0 is a guess") for name in absent]


def _range_of_data(entry: Entry) -> tuple[str, str]:
    """Shortest, median and longest of the first 4096 samples."""
    assert entry.every is not None  # it has data
    lengths = [length_of(entry.model, feeds) for feeds, _ in zip(entry.every(), range(_SCANNED), strict=False)]
    text = f"{min(lengths)}:{round(statistics.median(lengths))}:{max(lengths)}"
    return text, f"shortest, median and longest of {len(lengths)} sample(s)"
