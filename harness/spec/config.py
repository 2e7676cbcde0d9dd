"""Configuration: ``harness.toml``, or ``[tool.harness]`` in ``pyproject.toml``, read strictly.

The nearest folder upwards from the working directory that has one counts, and in it ``harness.toml`` wins. Paths
are relative to the file. Everything is optional::

    catalogue = "fixtures/catalogue.py"
    results = "results"
    matrix = "quick"                     # or full, or a TOML file
    deadline_s = 600
    require = ["tensorrt-*"]             # runtimes without which a run fails

    [environments]
    trt85 = "/opt/trt85/bin/python"
    gpu = { python = "/opt/trt86/bin/python", host = "ssh=user@gpu1" }   # docs/guide/environments.md

    [options."tensorrt-8"]               # of builds and loads, for runtimes of this name or whose names begin so
    workspace_bytes = 8589934592
    cuda_graph = true

    [[models]]
    path = "encoder.onnx"                # FP32; or with Q/DQ, then float = "encoder.fp32.onnx" may stand beside it
    axes = ["feats:1=frames"]
    range = "16:300:2000"
    data = "samples/"
    length_inputs = ["feats_len=frames"]
    gains = [1.0, 0.5]                   # loudness of drawn examples
    bounds = { "*" = { sqnr_db = 10.0, speedup = 1.3 }, drawn = { cosine = 0.4 } }

    [latency]
    tolerated = 0.02                     # slowdowns up to 2 % are tolerated,
    caught = 0.05                        # 5 % must be caught
    budget_s = 60                        # a case; launches and blocks can be said, too
    overrides = [{ models = ["encoder"], runtimes = ["onnxruntime"], tolerated = 0.03, caught = 0.08 }]

A name under ``[environments]`` is what ``--runtime`` and ``require`` can call it by. One whose interpreter is not
there, or whose host cannot be reached, stops a run only when it is called.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.errors import ConfigError, UsageError, close_to
from harness.spec.hosts import read_host
from harness.spec.latency import CAUGHT, TOLERATED, LatencyConfig, LatencySettings
from harness.spec.model import Bounds
from harness.spec.options import DECIDED, FAMILIES, RuntimeOptions, families_of

__all__ = [
    "Config",
    "EnvironmentConfig",
    "OwnModel",
    "find_config",
    "read_config",
]

_Positive = Annotated[float, msgspec.Meta(gt=0)]


class _BoundsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    sqnr_db: float | None = None
    cosine: float | None = None
    worst: float | None = None
    score: float | None = None
    speedup: float | None = None


class _LatencyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tolerated: float | None = None
    caught: float | None = None
    budget_s: _Positive | None = None
    launches: Annotated[int, msgspec.Meta(ge=2)] | None = None
    blocks: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _LatencyOverride(_LatencyTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings for some.

    :param models: keys, or patterns of them; all where there are none.
    :param runtimes: names of runtimes, their starts, or patterns; all where there are none.
    """

    models: list[str] = []
    runtimes: list[str] = []


class _LatencyDefaults(_LatencyTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    overrides: list[_LatencyOverride] = []


class _ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    axes: list[str]
    range: str
    key: str = ""
    float_: str | None = msgspec.field(name="float", default=None)
    data: str | None = None
    length_inputs: list[str] = []
    pads: list[str] = []
    constants: list[str] = []
    score: str = ""
    output: str = ""
    gains: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1)] = (1.0,)
    bounds: dict[str, _BoundsTable] = {}


class _EnvironmentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    python: str
    host: str = ""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    catalogue: str | None = None
    models: list[_ModelTable] = []
    environments: dict[str, str | _EnvironmentTable] = {}
    options: dict[str, dict[str, Any]] = {}
    results: str = "results"
    matrix: str = "quick"
    deadline_s: _Positive = 600.0
    require: list[str] = []
    latency: _LatencyDefaults = _LatencyDefaults()


@dataclass(frozen=True)
class OwnModel:
    """A ``[[models]]`` table: the options of :func:`harness.corpus.own.own_entry`, paths made absolute."""

    path: Path
    axes: tuple[str, ...]
    range: str
    key: str = ""
    float_: Path | None = None
    data: str | None = None
    length_inputs: tuple[str, ...] = ()
    pads: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    score: str = ""
    output: str = ""
    gains: tuple[float, ...] = (1.0,)
    bounds: tuple[tuple[str, Bounds], ...] = ()


@dataclass(frozen=True)
class EnvironmentConfig:
    """An interpreter that has a runtime.

    :param python: its path; relative ones with a ``/`` are taken from the configuration's folder. On another host it is
        what the shell there finds; ``~/`` is the home folder there.
    :param host: ``ssh=user@host`` (:func:`harness.spec.hosts.read_host`); empty is this machine.
    """

    name: str
    python: str
    host: str = ""


@dataclass(frozen=True)
class Config:
    """What the configuration says, defaults filled in.

    :param root: folder of the file; the working directory where there is none.
    :param file: None where there is none.
    :param catalogue: a Python file with ``ENTRIES``: models by key.
    :param models: models of your own, a table each.
    :param environments: interpreters that have a runtime, by a name of yours.
    :param results: the folder of runs.
    :param matrix: which cells are run: ``quick``, ``full`` or a TOML file.
    :param latency: how latency is judged and what it may cost.
    :param passed_over: a ``pyproject.toml`` with ``[tool.harness]`` beside the ``harness.toml`` that won.
    :param deadline_s: longest a call into a worker may take.
    :param require: patterns of runtimes without which a run fails.
    :param options: of builds and loads, by runtime.
    """

    root: Path
    file: Path | None = None
    passed_over: Path | None = None
    catalogue: Path | None = None
    models: tuple[OwnModel, ...] = ()
    environments: tuple[EnvironmentConfig, ...] = ()
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    results: Path = Path("results")
    matrix: str = "quick"
    deadline_s: float = 600.0
    require: tuple[str, ...] = ()
    latency: LatencyConfig = field(default_factory=LatencyConfig)


def find_config(start: Path | None = None) -> Config:
    """The configuration that holds in a folder (the working directory): its own, or the nearest one above.

    :raises ConfigError: the file is no TOML, or has a field that is unknown or of another type.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        own, project = folder / "harness.toml", folder / "pyproject.toml"
        in_project = project.is_file() and "harness" in _toml(project).get("tool", {})
        if own.is_file():
            return read_config(own, passed_over=project if in_project else None)
        if in_project:
            return read_config(project)
    return Config(root=start, results=start / "results")


def read_config(file: Path, passed_over: Path | None = None) -> Config:
    """One file: the whole of it, or ``[tool.harness]`` where it is a ``pyproject.toml``.

    :raises ConfigError: see :func:`find_config`.
    """
    file = file.absolute()
    values, prefix = _toml(file), ""
    if file.name == "pyproject.toml":
        values, prefix = values.get("tool", {}).get("harness", {}), "tool.harness."
    try:
        table = msgspec.convert(values, _Table)
    except msgspec.ValidationError as error:
        raise _explained(error, file, prefix) from error
    root = file.parent
    return Config(
        root=root,
        file=file,
        passed_over=passed_over,
        catalogue=root / table.catalogue if table.catalogue else None,
        models=tuple(_own_model(root, model) for model in table.models),
        environments=tuple(_environment(root, name, value, file) for name, value in table.environments.items()),
        options=_options(table.options, file, prefix),
        results=root / table.results,
        matrix=str(root / table.matrix) if table.matrix.endswith(".toml") else table.matrix,
        deadline_s=table.deadline_s,
        require=tuple(table.require),
        latency=_latency(table.latency, file, prefix),
    )


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"no TOML: {error}", where=str(file), todo="mend the line it names") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), todo="check the path") from error


def _own_model(root: Path, table: _ModelTable) -> OwnModel:
    constants = []
    for text in table.constants:
        name, equals, value = text.rpartition("=")
        constants.append(f"{name}{equals}{root / value}" if value.endswith(".npy") else text)
    return OwnModel(
        path=root / table.path,
        axes=tuple(table.axes),
        range=table.range,
        key=table.key,
        float_=root / table.float_ if table.float_ else None,
        data=str(root / table.data) if table.data else None,
        length_inputs=tuple(table.length_inputs),
        pads=tuple(table.pads),
        constants=tuple(constants),
        score=table.score,
        output=table.output,
        gains=table.gains,
        bounds=tuple((bucket, Bounds(**msgspec.structs.asdict(b))) for bucket, b in table.bounds.items()),
    )


def _options(tables: dict[str, dict[str, Any]], file: Path, prefix: str) -> RuntimeOptions:
    for pattern, options in tables.items():
        where = f"{prefix}options.{pattern}"
        for name in sorted(set(options) & set(DECIDED)):
            raise ConfigError(f"{where}.{name} cannot be said here", where=str(file), todo=DECIDED[name])
        families = families_of(pattern)
        if not families:
            close = close_to(pattern, FAMILIES)
            todo = f"did you mean {close[0]!r}?" if close else f"begin with one of {', '.join(FAMILIES)}"
            raise ConfigError(f"[{where}]: no runtime is called so", where=str(file), todo=todo)
        problems = [problem for family in families if (problem := _problem(options, FAMILIES[family]))]
        if len(problems) == len(families):
            known = sorted({one.name for family in families for one in msgspec.structs.fields(FAMILIES[family])})
            todo = f'the options are {", ".join(known)}; quote a name with dots: [options."tensorrt-8.5"]'
            raise ConfigError(f"[{where}]: {problems[0]}", where=str(file), todo=todo)
    return RuntimeOptions(tuple(tables.items()))


def _problem(options: dict[str, Any], struct: type[msgspec.Struct]) -> str:
    try:
        msgspec.convert(options, struct)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        return f"{path.strip('`.') + ': ' if path else ''}{what[0].lower() + what[1:].replace('`', '')}"
    return ""


def _latency(table: _LatencyDefaults, file: Path, prefix: str) -> LatencyConfig:
    def settings(one: _LatencyTable) -> LatencySettings:
        return LatencySettings(one.tolerated, one.caught, one.budget_s, one.launches, one.blocks)

    for place, one in {
        "latency": table,
        **{f"latency.overrides[{i}]": o for i, o in enumerate(table.overrides)},
    }.items():
        tolerated, caught = (
            next((value for value in (getattr(one, name), getattr(table, name)) if value is not None), default)
            for name, default in (("tolerated", TOLERATED), ("caught", CAUGHT))
        )
        if not 0 <= tolerated < caught < 1:
            raise ConfigError(
                f"{prefix}{place}: tolerated = {tolerated:g}, caught = {caught:g}",
                where=str(file),
                todo="0.02 is 2 %; what is tolerated is below what must be caught, and both are below 1",
            )
        if isinstance(one, _LatencyOverride) and not (one.models or one.runtimes):
            raise ConfigError(
                f"{prefix}{place} names no models and no runtimes",
                where=str(file),
                todo="what holds for all stands in [latency] itself",
            )
        if isinstance(one, _LatencyOverride) and settings(one) == LatencySettings():
            raise ConfigError(f"{prefix}{place} changes nothing", where=str(file), todo="give it a margin or a budget")
    overrides = tuple((tuple(one.models), tuple(one.runtimes), settings(one)) for one in table.overrides)
    return LatencyConfig(settings(table), overrides)


def _environment(root: Path, name: str, value: str | _EnvironmentTable, file: Path) -> EnvironmentConfig:
    table = _EnvironmentTable(python=value) if isinstance(value, str) else value
    if table.host:
        try:
            read_host(table.host)
        except UsageError as error:
            raise ConfigError(error.what, where=f"[environments] {name} in {file}", todo=error.todo) from None
    here = "/" in table.python and not table.host
    return EnvironmentConfig(name, str(root / table.python) if here else table.python, table.host)


_FIELDS: dict[str, type[msgspec.Struct]] = {
    "": _Table,
    "models": _ModelTable,
    "environments": _EnvironmentTable,
    "bounds": _BoundsTable,
    "latency": _LatencyDefaults,
    "overrides": _LatencyOverride,
}


def _explained(error: msgspec.ValidationError, file: Path, prefix: str) -> ConfigError:
    what, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".").replace("[...]", ".*")
    guide = "docs/measurement.md" if path.startswith("latency") else "docs/guide/own-model.md"
    todo = f"see the example in harness/spec/config.py, or {guide}"
    if match := re.search(r"unknown field `(.+)`", what):
        tables = [word for word in re.findall(r"[a-z_]+", path) if word in _FIELDS]
        known = [field.encode_name for field in msgspec.structs.fields(_FIELDS[tables[-1] if tables else ""])]
        close = close_to(match[1], known)
        what = f"unknown key {prefix}{path + '.' if path else ''}{match[1]}"
        todo = f"did you mean {close[0]!r}?" if close else f"the keys here are {', '.join(known)}"
    elif match := re.search(r"missing required field `(.+)`", what):
        what = f"missing key {match[1]!r} in {prefix}{path}"
    else:
        what = f"{prefix}{path}: {what[0].lower() + what[1:].replace('`', '')}"
    return ConfigError(what, where=str(file), todo=todo)
