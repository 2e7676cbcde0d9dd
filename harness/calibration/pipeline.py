"""From samples to ranges: policy, observation, method; one set of ranges, or one for each profile."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from harness.calibration import policies
from harness.calibration.observe import BINS, Histogram, Observation, Statistic, observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import Ranges, choose, statistic_for
from harness.calibration.selection import best_method, spread_over_lengths
from harness.errors import CalibrationFailed
from harness.modelfile import weighted_nodes
from harness.paths import cache_dir
from harness.spec.calibration import Calibration, Dialect, Method, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from harness.corpus.samples import Corpus, Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Layout, Profile

__all__ = ["OBSERVATION_VERSION", "Calibrated", "calibrate", "from_observed", "observed"]

OBSERVATION_VERSION = 2


@dataclass(frozen=True)
class Calibrated:
    """What a calibration gave.

    :param ranges: one entry that serves every profile, or (``per_profile``) one for each profile in order.
    :param seen: what the policy made of the samples.
    :param profile: index of the profile whose opt shape was used; None for ``ragged`` and ``per_profile``.
    :param consumed: batches that the model really ran; always ``seen.batches``.
    :param methods: what the ranges were chosen by, one entry for each of ``ranges``; ``auto`` is resolved.
    :param tried: for ``auto``, method -> SQNR in dB on calibration samples, one entry for each of ``ranges``.
    """

    ranges: tuple[Ranges, ...]
    seen: policies.Seen
    profile: int | None
    consumed: int
    methods: tuple[Method, ...] = ()
    tried: tuple[dict[str, float], ...] = ()

    def for_profile(self, index: int) -> Ranges:
        """The ranges that profile ``index`` of the layout is built with."""
        return self.ranges[index if len(self.ranges) > 1 else 0]


def calibrate(
    prepared: Path,
    model: Model,
    samples: Iterable[Feeds],
    lengths: Iterable[int],
    calibration: Calibration,
    layout: Layout,
    dialect: Dialect,
    *,
    threads: int = 1,
    on_sample: Callable[[int], None] | None = None,
    tensors: Sequence[str] | None = None,
) -> Calibrated:
    """Observe the FP32 model over ``samples`` under a policy and choose ranges.

    :param prepared: see :func:`harness.modelfile.prepare`.
    :param samples: iterated once, or once a profile under ``per_profile``, and once more for ``auto``; one sample is
        held at a time (``auto``: at most 24).
    :param lengths: the samples' lengths, to choose the calibration profile.
    :param tensors: what to find ranges for; without it, what the dialect's Q/DQ graph needs.
    :raises CalibrationFailed: no sample fits, a sample does not run, NaN, or not every batch was consumed.
    :raises LengthOutOfRange: a sample is outside the layout.
    """
    wanted = list(tensors or _tensors(prepared, dialect))
    lengths = list(lengths)
    found = [
        _observe_profile(
            prepared, wanted, model, samples, calibration.policy, layout, profile, own,
            statistic=statistic_for(calibration.method), threads=threads, on_sample=on_sample,
        )
        for profile, own in _plan(layout, lengths, calibration.policy)
    ]  # fmt: skip
    return from_observed(found, prepared, model, samples, lengths, calibration, layout, dialect, tensors=wanted)


def observed(
    prepared: Path, model: Model, corpus: Corpus, policy: Policy, layout: Layout, *, threads: int = 1
) -> list[tuple[Observation, policies.Seen]]:
    """Histograms of every tensor of either dialect over a corpus, cached by content: one per profile set.

    All methods and both dialects are read off these (:func:`harness.calibration.ranges.choose`).
    """
    tensors = _tensors(prepared, Dialect.U8S8)
    results = []
    for profile, own in _plan(layout, corpus.lengths, policy):
        scope = "" if policy is Policy.RAGGED else f"{profile}/{own}"
        key = _key(prepared, corpus.digest, policy.value, scope, *map(str, (layout.minimum, layout.maximum)))
        path = cache_dir("observations") / f"{key}.npz"
        cached = _load(path, tensors)
        if cached is None:
            cached = _observe_profile(
                prepared,
                tensors,
                model,
                corpus,
                policy,
                layout,
                profile,
                own,
                statistic=Histogram,
                threads=threads,
            )
            _save(path, *cached)
        results.append(cached)
    return results


def from_observed(
    found: Sequence[tuple[Observation, policies.Seen]],
    prepared: Path,
    model: Model,
    samples: Iterable[Feeds],
    lengths: Iterable[int],
    calibration: Calibration,
    layout: Layout,
    dialect: Dialect,
    *,
    tensors: Sequence[str] | None = None,
) -> Calibrated:
    """Read one method and dialect off observations made by :func:`observed`.

    :param samples: what was observed; ``auto`` runs some of them again.
    :param tensors: which of the observed tensors to find ranges for; without it, those that the dialect quantizes.
    """
    wanted, lengths = list(tensors or _tensors(prepared, dialect)), list(lengths)
    parts = [
        (Observation({name: observation.tensors[name] for name in wanted}, observation.samples), seen)
        for observation, seen in found
    ]
    methods = [calibration.method] * len(parts)
    tried: list[dict[str, float]] = []
    if calibration.method.name == "auto":
        for index, ((observation, _), (profile, own)) in enumerate(
            zip(parts, _plan(layout, lengths, calibration.policy), strict=True)
        ):
            chosen = _some(samples, lengths, profile if own else None)
            methods[index], reached = _best(prepared, observation, dialect, chosen, model.output)
            tried.append(reached)
    total = policies.Seen()
    for _, seen in parts:
        total = total.merged(seen)
    return Calibrated(
        ranges=tuple(choose(o, method, dialect) for (o, _), method in zip(parts, methods, strict=True)),
        seen=total,
        profile=_profile_index(layout, lengths, calibration.policy),
        consumed=sum(observation.samples for observation, _ in parts),
        methods=tuple(methods),
        tried=tuple(tried),
    )


def _best(
    prepared: Path, observation: Observation, dialect: Dialect, samples: Sequence[Feeds], output: str
) -> tuple[Method, dict[str, float]]:
    nodes = weighted_nodes(onnx.load(prepared))
    return best_method(prepared, nodes, observation, dialect, samples, output)


def _some(samples: Iterable[Feeds], lengths: Sequence[int], profile: Profile | None) -> list[Feeds]:
    """A few samples of a profile (or of all), spread over lengths, sorted by length."""
    inside = [index for index, length in enumerate(lengths) if profile is None or length in profile]
    picked = [inside[place] for place in spread_over_lengths([lengths[index] for index in inside])]
    kept = {index: feeds for index, feeds in enumerate(samples) if index in set(picked)}
    return [kept[index] for index in picked]


def _tensors(prepared: Path, dialect: Dialect) -> list[str]:
    # the model in objects is not kept: while samples run, ONNX Runtime holds the only copy
    proto = onnx.load(prepared)
    return tensors_to_observe(proto, weighted_nodes(proto), dialect)


def _plan(layout: Layout, lengths: Iterable[int], policy: Policy) -> list[tuple[Profile, bool]]:
    """The profiles to calibrate at, and whether each sees only the samples of its own lengths."""
    if policy is Policy.PER_PROFILE:
        return [(profile, True) for profile in layout.profiles]
    return [(layout.profiles[policies.calibration_profile(layout, lengths)], False)]


def _profile_index(layout: Layout, lengths: Iterable[int], policy: Policy) -> int | None:
    if policy in {Policy.RAGGED, Policy.PER_PROFILE}:
        return None
    return policies.calibration_profile(layout, lengths)


def _observe_profile(
    prepared: Path,
    tensors: list[str],
    model: Model,
    samples: Iterable[Feeds],
    policy: Policy,
    layout: Layout,
    profile: Profile,
    only_its_own: bool,  # noqa: FBT001 - a part of the plan, not a mode
    *,
    statistic: Callable[[], Statistic],
    threads: int = 1,
    on_sample: Callable[[int], None] | None = None,
) -> tuple[Observation, policies.Seen]:
    seen = policies.Seen()
    inside = policies.in_layout(model, samples, layout)
    chosen = policies.in_profile(model, inside, profile) if only_its_own else inside
    batches = policies.apply(model, chosen, policy, profile, seen)
    where = f"{model.key}, profile {profile}"
    try:
        observation = observe(prepared, tensors, batches, statistic=statistic, threads=threads, on_sample=on_sample)
    except CalibrationFailed as error:
        raise CalibrationFailed(error.what, where=f"{where}, {error.where}", todo=error.todo) from error
    if observation.samples != seen.batches:
        raise CalibrationFailed(f"{observation.samples} batches were consumed of {seen.batches} supplied", where=where)
    return observation, seen


def _key(prepared: Path, *parts: str) -> str:
    outer = hashlib.sha256(prepared.read_bytes())
    outer.update("\0".join([str(OBSERVATION_VERSION), *parts]).encode())
    return outer.hexdigest()[:32]


def _save(path: Path, observation: Observation, seen: policies.Seen) -> None:
    """Histograms are mostly empty: keep the codes that occur."""
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for index, statistic in enumerate(observation.tensors.values()):
        if not isinstance(statistic, Histogram):
            raise TypeError(statistic)
        counts = statistic.counts
        codes = np.flatnonzero(counts)
        arrays[f"codes{index}"] = codes.astype(np.uint16)
        arrays[f"counts{index}"] = counts[codes]
        arrays[f"facts{index}"] = np.array([statistic.count, statistic.minimum, statistic.maximum])
    arrays["names"] = np.array(list(observation.tensors))
    arrays["samples"] = np.array(observation.samples)
    arrays["lengths"] = np.array(seen.lengths)
    arrays["seen"] = np.array(
        [seen.supplied, seen.batches, seen.left_out, seen.elements, seen.padded, seen.lost], np.int64
    )
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(file.name, path)


def _load(path: Path, tensors: list[str]) -> tuple[Observation, policies.Seen] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as data:
        names = [str(name) for name in data["names"]]
        if names != tensors:
            return None
        found: dict[str, Statistic] = {}
        for index, name in enumerate(names):
            count, low, high = (float(v) for v in data[f"facts{index}"])
            statistic = Histogram(int(count), low, high)
            dense = np.zeros(BINS, np.int64)
            dense[data[f"codes{index}"]] = data[f"counts{index}"]
            statistic.add_counts(dense)
            found[name] = statistic
        supplied, batches, left_out, elements, padded, lost = (int(value) for value in data["seen"])
        lengths = [int(value) for value in data["lengths"]]
        seen = policies.Seen(supplied, batches, left_out, elements, padded, lost, lengths)
        return Observation(found, int(data["samples"])), seen
