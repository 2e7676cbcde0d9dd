"""What ``harness init`` writes and says: a commented ``harness.toml``, and what a sample has to hold."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.corpus.proposal import Proposal
    from harness.corpus.trial import Found
    from harness.onnx_facts import TensorFacts
    from harness.spec.config import Config

__all__ = ["a_sample", "quoted", "toml"]

_HEAD = """\
# Written by `harness init` from {model}: what the file says, and what running it at a few lengths said.
# Paths are relative to this file. Every key: docs/guide/own-model.md. See what is read: harness models
"""
_LEFT = """\

# What no file can tell. Without bounds nothing can fail, and the tables say "unbounded".
# score = "my_scores:same_class"           # MODULE:FUNCTION, your own measure of one sample's outputs
# bounds = { "*" = { sqnr_db = 15.0, speedup = 1.3 }, short = { sqnr_db = 10.0 } }
"""


def toml(found: Proposal, folder: Path, config: Config, key: str) -> str:
    """The whole file.

    :param folder: where it is to lie; :param config: what held there before: its catalogue is kept.
    :raises UsageError: a path or name that no TOML text can hold.
    """
    lines = [_HEAD.format(model=_said(found.facts.path.name))]
    if config.catalogue:
        lines += [
            "# The models that were configured before: this file takes the place of that configuration as a whole.",
            f"catalogue = {quoted(_relative(config.catalogue, folder))}\n",
        ]
    lines += ["[[models]]", f"path = {quoted(_relative(found.facts.path, folder))}"]
    if key:
        lines += [f"key = {quoted(key)}"]
    lines += ["", "# Inputs, as the file has them:"]
    lines += [f"#   {_said(tensor)}" for tensor in found.facts.inputs]
    lines += [f"# {_said(one.option)} is held at 1: {_said(one.why)}." for one in found.held]
    lines += ["", "# What varies, and what its length counts (the name is yours to change, everywhere it stands)."]
    lines += _listed("axes", found.axes)
    lines += [
        "",
        "# The lengths to serve: shortest, typical, longest.",
        f"# {_said(found.range_why)[:1].upper()}{_said(found.range_why)[1:]}. {'' if found.data else _FIRST}".rstrip(),
        f"range = {quoted(found.range)}",
    ]
    if found.length_inputs:
        lines += ["", "# Holds the number of valid elements; filled in where a sample leaves it out."]
        lines += _listed("length_inputs", found.length_inputs)
    if found.constants:
        lines += ["", "# Never varies; a sample that has it keeps its own."]
        lines += _listed("constants", found.constants)
    if found.late:
        names = ", ".join(_said(tensor.name) for tensor in found.late)
        one = found.late[0].name
        lines += ["", f"# Every sample has to bring {names}, or it is said once, as one of the constants:"]
        lines += [f"# constants = [{quoted(f'{one}=0')}]                # a number, a list, or NAME=FILE.npy"]
    lines += ["", *_data(found, folder), _LEFT.rstrip("\n"), *_outputs(found), ""]
    return "\n".join(lines)


_FIRST = "A first guess: put your traffic's there."


def _data(found: Proposal, folder: Path) -> Iterator[str]:
    if found.data is not None:
        yield "# Samples at their own lengths: the even-numbered ones calibrate, the odd-numbered ones test."
        yield f"data = {quoted(_relative_data(found.data, folder))}"
        return
    yield "# Samples: a folder with one .npz a sample, each at its own length; 50 at least. One of them holds"
    yield from (f"#   {_said(line)}" for line in _arrays(found))
    yield "# Without samples the inputs are random numbers, and every record says synthetic."
    yield '# data = "samples/"'


def _outputs(found: Proposal) -> Iterator[str]:
    if len(found.facts.outputs) > 1:
        yield "# The output that is compared; the first one if left out. There are:"
        yield from (f"#   {_said(tensor)}" for tensor in found.facts.outputs)
        yield f"# output = {quoted(found.facts.outputs[0].name)}"


def _arrays(found: Proposal) -> list[str]:
    """``feats: float32[1, frames, 80]``, a line for each array that a sample must have."""
    unit = found.entry.model.axis_name
    following = {(axis.input, axis.dim) for axis in found.entry.model.axes}
    optional = {one.option.partition("=")[0] for one in (*found.length_inputs, *found.constants)}

    def shape(tensor: TensorFacts) -> str:
        sizes = (
            unit if (tensor.name, dim) in following else str(size) if isinstance(size, int) else "1"
            for dim, size in enumerate(tensor.dims)
        )  # fmt: skip
        return f"{tensor.name}: {tensor.dtype}[{', '.join(sizes)}]"

    needed = [shape(tensor) for tensor in found.facts.inputs if tensor.name not in optional]
    return needed + [f"{shape(tensor)}, or not" for tensor in found.facts.inputs if tensor.name in optional]


def a_sample(found: Proposal) -> str:
    """What a sample has to hold, for the terminal: its arrays, and how to save them."""
    optional = {one.option.partition("=")[0] for one in (*found.length_inputs, *found.constants)}
    names = [tensor.name for tensor in found.facts.inputs if tensor.name not in optional]
    given = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: ..." for name in names)
    arrays = "\n".join(f"    {_said(line)}" for line in _arrays(found))
    return (
        "no data were given, so the inputs are random numbers. Put samples into samples/, 50 at least, each at its\n"
        "own length, and take the # off `data`. One .npz a sample, with\n"
        f"{arrays}\n"
        f"    numpy.savez('samples/00001.npz', **{{{given}}})"
    )


def _listed(key: str, found: Sequence[Found]) -> list[str]:
    if len(found) == 1 and not found[0].why:
        return [f"{key} = [{quoted(found[0].option)}]"]
    rows = [f"    {quoted(one.option)},{f'  # {_said(one.why)}' if one.why else ''}" for one in found]
    return [f"{key} = [", *rows, "]"]


def _relative(path: Path, folder: Path) -> str:
    """Inside the folder, so that both can be moved; a path up and down through other folders helps nobody."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, which may be what is meant
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _relative_data(data: str, folder: Path) -> str:
    script, colon, function = data.rpartition(":")
    if not script.endswith(".py"):
        script, colon, function = data, "", ""
    return _relative(Path(script), folder) + colon + function


def quoted(text: str) -> str:
    """A TOML basic string.

    :raises UsageError: it holds half a character, as file names may.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} is no text", where="harness init", todo="rename the file") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _said(what: object) -> str:
    """In one line of a comment, whatever a file calls its tensors."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "?", str(what))
