"""What an ONNX file says about itself: inputs, operators, digests; and where its external data lies."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from harness.errors import ModelRefused, UsageError, close_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from onnx import GraphProto, NodeProto, ValueInfoProto

__all__ = [
    "ModelFacts",
    "TensorFacts",
    "all_nodes",
    "called",
    "has_subgraph",
    "inlined",
    "is_batch",
    "is_whole",
    "leads_to",
    "listed",
    "parse",
    "read_facts",
    "unsigned_quantizers",
    "varying_axes",
]

_BATCH_NAME = re.compile(r"n|b|bs|batch.*|n_?batch|.*batch_?size|unk_.*|.*dynamicdimension.*|\?", re.IGNORECASE)
_FIRST_PRINTABLE = 0x20


@dataclass(frozen=True)
class TensorFacts:
    """One input or output of the graph.

    :param dtype: numpy's name (``float32``, ``int64``, ``bool``); others as ONNX names them.
    :param dims: an int where the size is fixed, the symbol where it has one, ``"?"`` where it has no name.
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(dim) for dim in self.dims)}]"


@dataclass(frozen=True)
class ModelFacts:
    """What a file says about itself.

    :param path: the file, absolute.
    :param opset: version of the default operator set.
    :param op_counts: (operator, how often), most frequent first; others' operators as ``domain::op``.
    :param sha256: of the file alone; 64 hex digits.
    :param digest: of the file and all its external data; equal to ``sha256`` when there is none.
    :param size_bytes: of the file and its external data.
    :param metadata: the file's key/value properties.
    :param control_flow: (operator, node name) of every If, Loop and Scan at the top of the graph.
    """

    path: Path
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    opset: int
    ir_version: int
    op_counts: tuple[tuple[str, int], ...]
    sha256: str
    digest: str
    size_bytes: int
    metadata: tuple[tuple[str, str], ...]
    control_flow: tuple[tuple[str, str], ...]

    def input(self, name: str) -> TensorFacts:
        """The input of that name.

        :raises UsageError: there is none; the message lists what there is, the closest first.
        """
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        names = close_to(name, [tensor.name for tensor in self.inputs])
        raise UsageError(
            f"no input {name!r}",
            where=str(self.path),
            todo=(f"did you mean {names[0]!r}? " if names else "") + f"the inputs are {listed(self.inputs)}",
        )


def listed(tensors: Iterable[TensorFacts]) -> str:
    """Inputs or outputs for a message: ``x: float32[1, T, 80]; n: int64[1]``."""
    return "; ".join(str(tensor) for tensor in tensors)


def varying_axes(facts: ModelFacts) -> list[tuple[TensorFacts, int]]:
    """(input, dimension) of every dynamic dimension that does not look like a batch.

    A leading dimension counts as a batch when it has no name or one that says so (``N``, ``batch_size``, an
    exporter's ``unk__6``); ``sequence_length`` in front does not.
    """
    return [
        (tensor, index)
        for tensor in facts.inputs
        for index, dim in enumerate(tensor.dims)
        if isinstance(dim, str) and not is_batch(index, dim)
    ]


def is_batch(index: int, symbol: str) -> bool:
    """Whether an open dimension, by its place and symbol (``?`` where it has none), looks like a batch."""
    return index == 0 and bool(_BATCH_NAME.fullmatch(symbol))


def read_facts(path: Path | str) -> ModelFacts:
    """What any ONNX file says about itself, quantized or not; external data is found, hashed, not parsed.

    :raises UsageError: there is no such file, or it is a folder.
    :raises ModelRefused: it is not ONNX, or its external data is missing or outside its folder.
    """
    path = _existing(Path(path))
    model = parse(path)
    outer = hashlib.sha256()
    sha256, size = _hash_file(path)
    outer.update(bytes.fromhex(sha256))
    externals = _external_files(path, model)
    for location, file in externals:
        file_sha, file_size = _hash_file(file)
        outer.update(location.encode() + b"\0" + bytes.fromhex(file_sha))
        size += file_size
    initializers = {tensor.name for tensor in model.graph.initializer}
    ops = Counter(
        f"{n.domain}::{n.op_type}" if n.domain not in {"", "ai.onnx"} else n.op_type for n in all_nodes(model)
    )
    return ModelFacts(
        path=path,
        inputs=tuple(_tensor_facts(path, v) for v in model.graph.input if v.name not in initializers),
        outputs=tuple(_tensor_facts(path, v) for v in model.graph.output),
        opset=_opset(model),
        ir_version=model.ir_version,
        op_counts=tuple(ops.most_common()),
        sha256=sha256,
        digest=outer.hexdigest() if externals else sha256,
        size_bytes=size,
        metadata=tuple((entry.key, entry.value) for entry in model.metadata_props),
        control_flow=tuple((node.op_type, node.name) for node in model.graph.node if has_subgraph(node)),
    )


def _existing(path: Path) -> Path:
    if path.is_dir():
        found = sorted(file.name for file in path.glob("*.onnx"))
        raise UsageError(
            "a folder, not an ONNX file",
            where=str(path),
            todo=f"name a file in it: {', '.join(found[:5])}" if found else "it holds no .onnx file",
        )
    if not path.exists():
        try:
            names = [entry.name for entry in path.parent.iterdir()]
        except OSError:
            names = []
        close = close_to(path.name, names)
        raise UsageError(
            "no such file" if path.parent.is_dir() else f"no such file, and no folder {path.parent}",
            where=str(path),
            todo=f"did you mean {path.parent / close[0]}?" if close else "give the path of an ONNX file",
        )
    return path.absolute()


def parse(path: Path) -> ModelProto:
    """The file without its external data."""
    try:
        head = path.open("rb").read(64)
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path), todo="check its permissions") from error
    except DecodeError as error:
        raise _not_onnx(path, head) from error
    if not model.ir_version or not model.graph.node or not model.opset_import:
        raise _not_onnx(path, head)
    return model


# Path -> (mtime_ns, size) when it was found whole: a run parses each file once.
_found_whole: dict[Path, tuple[int, int]] = {}


def is_whole(path: Path) -> bool:
    """Whether ``path`` is there and can be read as ONNX, not cut short by a crash or a full disk."""
    try:
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if _found_whole.get(path) != stamp:
            parse(path)
            _found_whole[path] = stamp
    except (OSError, UsageError, ModelRefused):
        return False
    return True


def _not_onnx(path: Path, head: bytes) -> ModelRefused:
    looks, todo = "it may be cut short or damaged", "export or copy it again, and compare sizes"
    if not head:
        looks = "the file is empty"
    elif head.startswith(b"version https://git-lfs"):
        looks, todo = "it is a Git LFS pointer", "run `git lfs pull` in its repository"
    elif head.startswith(b"PK\x03\x04"):
        looks, todo = "it is a zip archive, perhaps a PyTorch checkpoint", "export it with torch.onnx.export"
    elif all(byte in b"\t\r\n" or byte >= _FIRST_PRINTABLE for byte in head):
        looks, todo = f"it looks like text ({head[:24]!r})", "give the path of an ONNX file"
    return ModelRefused(f"not an ONNX model: {looks}", where=str(path), todo=todo)


def _external_files(path: Path, model: ModelProto) -> list[tuple[str, Path]]:
    folder = path.parent.resolve()
    found: dict[str, Path] = {}
    for tensor in _all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if location in found:
            continue
        file = folder / location
        if not location or Path(location).is_absolute() or not file.resolve().is_relative_to(folder):
            raise ModelRefused(
                f"tensor {tensor.name!r} keeps its data in {location!r}, outside the model's folder",
                where=str(path),
                todo="save it again with its data beside it: onnx.save(..., save_as_external_data=True)",
            )
        if not file.is_file():
            raise ModelRefused(
                f"external data file {location!r} (tensor {tensor.name!r}) is missing",
                where=str(path),
                todo=f"copy it to {folder}",
            )
        found[location] = file
    return sorted(found.items())


def _hash_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def _tensor_facts(path: Path, value: ValueInfoProto) -> TensorFacts:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelRefused(
            f"{value.name!r} is a {(kind or 'value without a type').removesuffix('_type')}, not a tensor",
            where=str(path),
            todo="export the model with tensors as inputs and outputs",
        )
    tensor = value.type.tensor_type
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?"
        for dim in tensor.shape.dim
    )
    name = TensorProto.DataType.Name(tensor.elem_type).lower()
    numpy_names = {"float": "float32", "double": "float64"}
    return TensorFacts(value.name, numpy_names.get(name, name), dims)


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def inlined(model: ModelProto, where: str) -> ModelProto:
    """The model without functions of its own, each written out where it is called; itself where it has none.

    :param where: the model's file, for messages.
    :raises ModelRefused: they call each other in a circle, or are of versions that do not go together.
    """
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # C++ errors of no common class
        raise ModelRefused(
            "its functions cannot be written out", where=where, todo="export it without functions", detail=str(error)
        ) from error


def has_subgraph(node: NodeProto) -> bool:
    """Whether a node holds graphs of its own, as If, Loop and Scan do."""
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _subgraphs(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield graph
                yield from _subgraphs(graph.node)


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node of the graph and of the model's functions, those in subgraphs at any depth included.

    A body's own nodes come first, in its order, then those of its subgraphs.
    """
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for nodes in bodies:
        yield from nodes
        for graph in _subgraphs(nodes):
            yield from graph.node


def _all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for graph in _subgraphs(model.graph.node):
        yield from graph.initializer
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def leads_to(path: Path, name: str, kinds: Iterable[str]) -> set[str]:
    """Which of these operators a tensor reaches first, through operators that only cast, reshape and calculate."""
    graph, wanted = parse(path).graph, set(kinds)
    found: set[str] = set()
    seen, ahead = {name}, [name]
    while ahead:
        tensor = ahead.pop()
        for node in graph.node:
            if tensor not in node.input:
                continue
            if node.op_type in wanted:
                found.add(node.op_type)
            elif node.op_type in _PLAIN:
                ahead += [output for output in node.output if output not in seen]
                seen.update(node.output)
    return found


_PLAIN = {"Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Concat"}
_PLAIN |= {"Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Round", "Neg", "Abs"}

_UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT4}


def unsigned_quantizers(model: ModelProto) -> list[NodeProto]:
    """Every QuantizeLinear that makes unsigned integers, and every DequantizeLinear of unsigned constants.

    QuantizeLinear makes what its zero point is, else what ``output_dtype`` says (opset 21), else uint8 (ONNX operator
    specification). One whose zero point is computed is passed over.
    """
    types = {tensor.name: tensor.data_type for tensor in _all_tensors(model) if tensor.name}
    for node in all_nodes(model):
        if node.op_type == "Constant" and (value := [a.t for a in node.attribute if a.name == "value"]):
            types[node.output[0]] = value[0].data_type
    return [node for node in all_nodes(model) if _quantized_type(node, types) in _UNSIGNED]


def _quantized_type(node: NodeProto, types: Mapping[str, int]) -> int:
    """The element type on the integer side; UNDEFINED where the node or the file does not tell."""
    zero = node.input[2] if len(node.input) > 2 else ""
    if node.op_type == "DequantizeLinear":
        return types.get(zero) or types.get(node.input[0], TensorProto.UNDEFINED)
    if node.op_type != "QuantizeLinear":
        return TensorProto.UNDEFINED
    asked = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
    return types.get(zero, TensorProto.UNDEFINED) if zero else asked or TensorProto.UINT8


def called(node: NodeProto) -> str:
    """A node for a message: its operator and name, or its first output where it has no name."""
    return f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} (unnamed, output {node.output[0]!r})"
