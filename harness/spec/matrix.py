"""The matrix: which cases a run holds."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, UsageError
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case
from harness.spec.routes import calibrates, default_routes, ready_routes, routes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = [
    "DEFAULT_METHOD",
    "DEFAULT_POLICY",
    "FULL",
    "MIXED",
    "MIXED_CALIBRATION",
    "Matrix",
    "expand",
    "first_calibrations",
    "read_matrix",
]

DEFAULT_METHOD = "auto"
DEFAULT_POLICY = Policy.RAGGED
MIXED = "int8-mixed"
"""The word for INT8 as ``harness mix`` left it, among precisions."""
MIXED_CALIBRATION = Calibration(Method("mixed"), Policy.RAGGED)

_METHODS = ("auto", "minmax", "percentile99.9", "percentile", "percentile99.999", "entropy", "mse")


@dataclass(frozen=True)
class Matrix:
    """The axes of the matrix; each a list of words as the options take them.

    :param routes: how ranges reach a runtime that can take them in several ways: ``cache``, ``qdq``, ``calibrator``,
        ``qdq_strong``. Empty: what is usual there (:func:`harness.spec.routes.default_routes`).
    :param compared: METHOD-POLICY words that stand beside the default of the matrix, in its first layout.
    :param samples: calibration samples a model.
    :param tests: test samples a length bucket.
    :param draws: hypothesis examples a case.
    :param launches: of a latency session, at most; :param blocks: random-order blocks in each.
    :param builds: how often each engine is built, where the runtime builds: two builds of one model differ in speed.
        Latency is then judged over builds, and needs at least as many launches.
    :param budget_s: no launch of a latency session is begun after so many seconds.
    """

    name: str = "quick"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    methods: tuple[str, ...] = (DEFAULT_METHOD,)
    policies: tuple[str, ...] = (DEFAULT_POLICY.value,)
    layouts: tuple[str, ...] = ("single", "buckets3")
    routes: tuple[str, ...] = ()
    compared: tuple[str, ...] = ("minmax-ragged", "percentile-ragged", "mse-ragged", "mse-pad", "mse-window")
    samples: int = 24
    tests: int = 4
    draws: int = 10
    launches: int = 4
    blocks: int = 6
    builds: int = 1
    budget_s: int = 25

    def with_options(self, **given: Sequence[str]) -> Matrix:
        """Replace the axes that were given on the command line (empty ones are left as they are)."""
        return replace(self, **{name: tuple(values) for name, values in given.items() if values})  # type: ignore[arg-type]

    def comparisons(self) -> list[Calibration]:
        """What ``compared`` names, read; without those that are cells of the matrix and so measured as cases.

        :raises UsageError: a word that is not METHOD-POLICY.
        """
        pairs = [word.partition("-") for word in self.compared]
        named = [Calibration(Method.parse(method), _policy(policy)) for method, _, policy in pairs]
        own = set(self.calibrations())
        return [calibration for calibration in dict.fromkeys(named) if calibration not in own]

    def calibrations(self) -> list[Calibration]:
        """Every method of the matrix under every policy.

        :raises UsageError: a word that is no method or policy.
        """
        pairs = itertools.product(self.methods, self.policies)
        return [Calibration(Method.parse(method), _policy(policy)) for method, policy in pairs]


FULL = Matrix(
    name="full",
    methods=_METHODS,
    policies=tuple(policy.value for policy in Policy if policy is not Policy.REINTERPRET),
    layouts=("single", "buckets3", "geometric5"),
    samples=64,
    tests=12,
    draws=50,
    launches=12,
    blocks=24,
    budget_s=180,
    compared=tuple(f"{m}-{p.value}" for m in ("minmax", "percentile", "entropy", "mse") for p in Policy),
)


def read_matrix(text: str) -> Matrix:
    """``quick``, ``full``, or a TOML file with any of the fields of :class:`Matrix`.

    :raises ConfigError: the file has a field that no matrix has, or one of another type.
    """
    if text == "quick":
        return Matrix()
    if text == "full":
        return FULL
    path = Path(text)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{text!r} is neither quick, full nor a readable file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"no TOML: {error}", where=text) from error
    known = {item.name: item for item in fields(Matrix)}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"unknown field {name!r}", where=text, todo=f"one of {', '.join(known)}")
        table[name] = _value(name, value, text)
    return Matrix(**{"name": path.stem, **table})


def _value(name: str, value: Any, where: str) -> Any:  # noqa: ANN401 - as TOML has it
    wanted = type(getattr(Matrix(), name))
    kind = list if wanted is tuple else wanted
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{name} = {value!r} is no {kind.__name__}", where=where)
    if isinstance(value, list) and not all(isinstance(word, str) for word in value):
        raise ConfigError(f"{name} = {value!r} is no list of words", where=where, todo="put them in quotes")
    if name == "launches" and value == 1:
        raise ConfigError(f"launches = {value}", where=where, todo="one launch does not show how launches differ: 2")
    if (isinstance(value, int) and value < 1) or (value == [] and name not in {"compared", "routes"}):
        raise ConfigError(f"{name} = {value!r} leaves nothing to run", where=where, todo="at least one")
    return tuple(value) if wanted is tuple else value


def expand(
    matrix: Matrix,
    models: Iterable[str],
    runtimes: Iterable[str],
    families: Mapping[str, tuple[str, str]] | None = None,
    ready: Collection[str] = (),
) -> list[Case]:
    """Every case of the matrix, models outermost, so that neighbours share a model.

    A calibration that cannot go by a route has no case there: TensorRT's own calibrators know two methods, one shape.

    :param runtimes: names of environments (``onnxruntime-1.32.0-cpu``).
    :param families: environment name -> (family, version), which decide the routes; Q/DQ where nothing is said.
    :param ready: models whose own files have Q/DQ: one INT8 case in place of every method under every policy.
    :raises UsageError: a word that is no precision, method, policy or route.
    """
    calibrations = matrix.calibrations()
    wanted = [_route(word) for word in matrix.routes]
    cases = []
    for model, runtime, layout, word in itertools.product(models, runtimes, matrix.layouts, matrix.precisions):
        precision = _precision(word)
        if precision is not Precision.INT8:
            cases.append(Case(model, runtime, precision, None, layout, Route.QDQ))
            continue
        family = (families or {}).get(runtime, ("", ""))
        there = routes_of(*family)
        if model in ready and word == MIXED:
            continue  # mixed precision is searched from an FP32 model
        if model in ready:
            cases += [
                Case(model, runtime, precision, None, layout, route) for route in ready_routes(*family, asked=wanted)
            ]
            continue
        routes = [route for route in wanted if route in there] if wanted and len(there) > 1 else default_routes(*family)
        chosen = [MIXED_CALIBRATION] if word == MIXED else calibrations
        cases += [
            Case(model, runtime, precision, calibration, layout, route)
            for calibration, route in itertools.product(chosen, routes)
            if calibrates(route, calibration)
        ]
    cases = list(dict.fromkeys(cases))  # percentile and percentile99.99 are one
    left = any(one.calibration or one.ready for one in cases)
    if cases and Precision.INT8 in map(_precision, matrix.precisions) and not left:
        raise _no_int8(matrix, families or {})
    return cases


def first_calibrations(cases: Iterable[Case]) -> list[Case]:
    """Without all but the first calibration of each INT8 case: of each model, runtime, layout and route; mixed
    precision, which was asked for by name, stays beside it.
    """
    found: dict[tuple[object, ...], Case] = {}
    for case in cases:
        found.setdefault((case.model, case.runtime, case.precision, case.layout, case.route, case.mixed), case)
    return list(found.values())


def _no_int8(matrix: Matrix, families: Mapping[str, tuple[str, str]]) -> UsageError:
    """Why a matrix that names INT8 has none of it: the route, or what cannot go by it."""
    routes = ", ".join(matrix.routes)
    taken = sorted({route.value for family in families.values() for route in routes_of(*family)})
    if not set(matrix.routes) & set(taken):
        names = ", ".join(families) or "these runtimes"
        return UsageError(
            f"no INT8 case is left: {names} cannot take the routes {routes}", todo=f"take {', '.join(taken)}"
        )
    words = f"methods {', '.join(matrix.methods)}; policies {', '.join(matrix.policies)}"
    return UsageError(
        f"no INT8 case is left: TensorRT's own calibrators take none of these: {words}",
        where=f"routes {routes}",
        todo="for calibrator give --methods entropy or minmax, and --policies pad, truncate, window or reinterpret",
    )


def _route(word: str) -> Route:
    try:
        return Route(word)
    except ValueError:
        raise UsageError(f"unknown route {word!r}", todo=f"one of {', '.join(Route)}") from None


def _policy(word: str) -> Policy:
    try:
        return Policy(word)
    except ValueError:
        raise UsageError(f"unknown policy {word!r}", todo=f"one of {', '.join(Policy)}") from None


def _precision(word: str) -> Precision:
    if word == MIXED:
        return Precision.INT8
    try:
        return Precision(word)
    except ValueError:
        raise UsageError(f"unknown precision {word!r}", todo=f"one of {', '.join([*Precision, MIXED])}") from None
