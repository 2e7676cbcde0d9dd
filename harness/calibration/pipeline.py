"""From samples to ranges: policy, observation, method; one set of ranges, or one for each profile."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from harness.calibration import kept, policies
from harness.calibration.observe import Histogram, Observation, Statistic, observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import Ranges, choose, statistic_for
from harness.calibration.selection import best_method, spread_over_lengths
from harness.corpus.samples import Corpus, digest_of
from harness.errors import CalibrationFailed
from harness.modelfile import read_facts, scored_output, weighted_nodes
from harness.spec.calibration import Calibration, Dialect, Method, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.corpus.samples import Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Layout, Profile

__all__ = ["Calibrated", "calibrate", "from_observed", "observed"]


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
    :param samples: iterated once, or once a profile under ``per_profile``; ``auto`` reads some of them again. One
        sample is held at a time (``auto``: at most 24).
    :param lengths: the samples' lengths, to choose the calibration profile.
    :param tensors: what to find ranges for; without it, what the dialect's Q/DQ graph needs.
    :raises CalibrationFailed: no sample fits, a sample does not run, NaN, or fewer or more samples came than there are
        lengths.
    :raises LengthOutOfRange: a sample is outside the layout.
    """
    wanted = list(tensors or _tensors(prepared, dialect))
    lengths = list(lengths)
    found = [
        _observe_profile(
            prepared, wanted, model, samples, _expected(lengths, profile if own else None), calibration.policy, layout,
            profile, own, statistic=statistic_for(calibration.method), threads=threads, on_sample=on_sample,
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
        served = f"{layout.minimum}-{layout.maximum}"
        path = kept.path(prepared, model, corpus.digest, policy.value, scope, served)
        found = kept.load(path, tensors)
        if found is None:
            expected = _expected(corpus.lengths, profile if own else None)
            found = _observe_profile(
                prepared, tensors, model, corpus, expected, policy, layout, profile, own,
                statistic=Histogram, threads=threads,
            )  # fmt: skip
            kept.save(path, *found)
        results.append(found)
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
        output = scored_output(model, read_facts(prepared))
        ties = _tie_breaks(samples, lengths)
        for index, ((observation, _), (profile, own)) in enumerate(
            zip(parts, _plan(layout, lengths, calibration.policy), strict=True)
        ):
            chosen = _some(samples, lengths, ties, profile if own else None)
            methods[index], reached = _best(prepared, observation, dialect, chosen, output)
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


def _some(
    samples: Iterable[Feeds], lengths: Sequence[int], ties: Sequence[str], profile: Profile | None
) -> list[Feeds]:
    """A few samples of a profile (or of all), spread over lengths, sorted by length."""
    inside = [index for index, length in enumerate(lengths) if profile is None or length in profile]
    spread = spread_over_lengths([lengths[index] for index in inside], [ties[index] for index in inside])
    picked = [inside[place] for place in spread]
    found = dict(_at(samples, picked))
    return [found[index] for index in picked]


def _tie_breaks(samples: Iterable[Feeds], lengths: Sequence[int]) -> list[str]:
    """The digest of each sample that has another one's length, empty for all others."""
    often = Counter(lengths)
    tied = [index for index, length in enumerate(lengths) if often[length] > 1]
    found = {index: digest_of([feeds]) for index, feeds in _at(samples, tied)}
    return [found.get(index, "") for index in range(len(lengths))]


def _at(samples: Iterable[Feeds], indices: Sequence[int]) -> Iterator[tuple[int, Feeds]]:
    """(index, sample), in the source's order; a corpus is read at these places only."""
    wanted = set(indices)
    if isinstance(samples, Corpus):
        return ((index, samples[index]) for index in sorted(wanted))
    upto = itertools.islice(samples, max(wanted, default=-1) + 1)
    return ((index, feeds) for index, feeds in enumerate(upto) if index in wanted)


def _expected(lengths: Sequence[int], profile: Profile | None) -> int:
    return sum(profile is None or length in profile for length in lengths)


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
    expected: int,
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
    if seen.supplied != expected:
        raise CalibrationFailed(
            f"{seen.supplied} samples came, and there should have been {expected}",
            where=where,
            todo="the source ends early or changed since its lengths were read; give one that can be read twice",
        )
    if observation.samples != seen.batches:
        raise CalibrationFailed(f"{observation.samples} batches were consumed of {seen.batches} supplied", where=where)
    return observation, seen
