"""A run's page: where it ran, with what data, what came out, how to run it again, and the ends of its logs."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.site.pages import Page, file_name
from harness.site.reading import as_mapping
from harness.site.words import level, rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.results.query import Found, RunSummary
    from harness.results.record import Record

__all__ = ["again", "run_page"]

_LISTED = 400
_READ = 60
_LOGS = 12
_TAIL = 40
_LONGEST = 6000
_OF_RUN = "run"
_PRINTED_LINES = 100
_PRINTED_LONGEST = 20_000


def run_page(
    summary: RunSummary,
    records: Sequence[Found],
    models: frozenset[str],
    gate: bool,  # noqa: FBT001 - a fact, no choice
) -> Page:
    """The page of one run. Of its records those that are bad, and the first ones, are read whole, not all.

    :param records: its own, in their order. :param models: that have a page: of a gate alone none has.
    :param gate: whether a gate's page goes with it.
    """
    order = sorted(records, key=lambda one: rank(one.verdict))
    # The worst for their logs; one of each runtime and host for its environment, one of each model for its data.
    by_place = {(one.model, one.runtime, one.host): one for one in reversed(records)}
    said = [one for one in records if one.kind == _OF_RUN][-_LOGS:]
    shown = [one for one in order if one.kind != _OF_RUN]
    places = {(one.path, one.line): one for one in (*said, *shown[: _LOGS * 2], *by_place.values())}
    read = [one.record() for one in list(places.values())[:_READ]]
    given = _given(read)
    context = {
        "run": summary,
        "records": shown[:_LISTED],
        "more": len(shown) - _LISTED,
        "models": models,
        "counts": sorted(Counter(one.verdict for one in shown).items(), key=lambda pair: rank(pair[0])),
        "words": sorted({one.verdict for one in shown[:_LISTED]}, key=rank),
        "machine": _machine(read),
        "workers": _workers(read),
        "data": _data(read),
        "given": given,
        "again": given or (_gate_again(read) if gate else again(read)),
        "logs": list(_logs(read)),
        "printed": list(_printed(read)),
        "gate": file_name("gate", summary.run) if gate else "",
    }
    return Page(file_name("run", summary.run), "run", summary.run, context)


def _given(records: Sequence[Record]) -> str:
    """The command as it was given, of the first record that says."""
    said = (as_mapping(one.get("environment")).get("command") for one in records)
    return next((text for text in said if isinstance(text, str)), "")


def again(records: Sequence[Record]) -> str:
    """The command that runs the same cells, as far as records tell: models, runtimes, precisions, seed."""
    fields = [as_mapping(one.get("fields")) for one in records]
    said = {
        "--models": {str(one["model"]) for one in fields if one.get("model")},
        "--runtime": {str(one["runtime"]) for one in fields if one.get("runtime")},
    }
    words = ["pytest", "suites/"]
    for option, values in said.items():
        if values:
            words += [option, ",".join(sorted(values))]
    if seeds := _seeds(records):
        words += ["--seed", *seeds]
    return shlex.join(words) if said["--models"] else ""


def _gate_again(records: Sequence[Record]) -> str:
    """The command that asks the same gate, as far as records tell."""
    gates = [one for one in records if one["kind"] == "gate"]
    sides = next((as_mapping(one.get("values")) for one in gates), {})
    names = [sides.get(name) for name in ("baseline", "candidate")]
    if sides.get("record"):
        names[0] = f"record:{sides['record']}"
    if not all(isinstance(name, str) and name for name in names):
        return ""
    words = ["harness", "gate", *map(str, names)]
    models = {str(model) for one in gates if (model := as_mapping(one.get("fields")).get("model"))}
    for option, values in (("--models", models), ("--seed", _seeds(gates))):
        words += [option, ",".join(sorted(values))] if values else []
    return shlex.join(words)


def _seeds(records: Sequence[Record]) -> list[str]:
    seeds = {seed for one in records if isinstance(seed := one.get("seed"), int) and not isinstance(seed, bool)}
    return [str(min(seeds))] if seeds else []


def _machine(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Name and value of what the coordinator's machine was, of the first record that says."""
    about = next((as_mapping(one.get("environment")) for one in records), {})
    flat = dict(_flat("", {name: value for name, value in about.items() if name not in {"worker", "command"}}))
    return [(name, text) for name, text in flat.items() if text]


def _workers(records: Sequence[Record]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Runtime, with its host where there are several -> what its process said of itself."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for one in records:
        worker = as_mapping(as_mapping(one.get("environment")).get("worker"))
        if worker:
            found.setdefault((str(as_mapping(one.get("fields")).get("runtime", "")), _host(one)), worker)
    several = len({host for _, host in found}) > 1
    return [
        (_on(name, host if several else ""), [pair for pair in _flat("", worker) if pair[1]])
        for (name, host), worker in sorted(found.items())
    ]


def _host(one: Record) -> str:
    host = as_mapping(one.get("environment")).get("host")
    return host if isinstance(host, str) else ""


def _on(name: str, host: str) -> str:
    return f"{name} on {host}" if host else name


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), one)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            yield from _flat(f"{name}[{number}]", one)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "" if value is None else str(value)


def _data(records: Sequence[Record]) -> list[dict[str, Any]]:
    """For each model its corpora: how many samples of how many, and their digests."""
    found: dict[str, dict[str, Any]] = {}
    for one in records:
        model = str(as_mapping(one.get("fields")).get("model", ""))
        row = found.setdefault(model, {"model": model, "corpora": {}, "seed": one.get("seed"), "files": {}})
        row["synthetic"] = one.get("synthetic") is True
        counts = as_mapping(one.get("samples"))
        row["files"] |= {
            str(role): str(digest) for role, digest in as_mapping(one.get("model")).items() if role == "fp32"
        }
        for split, digest in as_mapping(one.get("corpus")).items():
            count = as_mapping(counts.get(split))
            of = f" of {count['of']}" if count.get("of") else ""
            row["corpora"][split] = {
                "digest": str(digest),
                "taken": f"{count['taken']}{of}" if "taken" in count else "",
            }
    return [row for name, row in sorted(found.items()) if name]


def _logs(records: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    """Case and kind, word, and the end of what was logged; of bad records first."""
    told = 0
    for one in sorted(records, key=lambda one: rank(str(one.get("verdict", "")))):
        values = as_mapping(one.get("values"))
        warnings = values.get("warnings")
        parts = [str(values.get("error") or "")]
        parts += map(str, warnings) if isinstance(warnings, list) and level(str(one["verdict"])) != "good" else []
        parts += map(str, values["reasons"]) if isinstance(values.get("reasons"), list) else []
        text = "\n".join(filter(None, parts))
        if text and told < _LOGS:
            told += 1
            tail = _end(text, _TAIL, _LONGEST)
            yield f"{one.get('case', '')} {one['kind']}", str(one["verdict"]), tail


def _printed(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Environment, with its host where there are several, and the end of what its workers printed."""
    several = len({_host(one) for one in records}) > 1
    for one in records:
        if one["kind"] == _OF_RUN:
            for name, text in list(as_mapping(as_mapping(one.get("values")).get("worker_logs")).items())[:_LOGS]:
                if isinstance(text, str) and text.strip():
                    yield _on(name, _host(one) if several else ""), _end(text, _PRINTED_LINES, _PRINTED_LONGEST)


def _end(text: str, lines: int, signs: int) -> str:
    return "\n".join(text.splitlines()[-lines:])[-signs:]
