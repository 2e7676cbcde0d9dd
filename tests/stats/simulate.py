"""Simulated sessions whose truth is known: what a shared host does to three arms, in numbers.

Every time is ``base * exp(drift + launch + noise + spike)``, and the candidate's also times ``exp(effect)``:

- drift, shared by the arms of a block: a random walk over blocks, a new level in every launch;
- launch, one draw for each arm and launch: ``launch_sd`` is that of the log ratio of two arms;
- noise, AR(1) over the blocks of a launch: ``block_sd`` is that of the log ratio of two arms;
- spike, a share ``spike_rate`` of blocks hits one arm with ``spike_factor`` (each arm at an equal rate).

No wall clock is used anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.stats.location import hodges_lehmann_rows
from harness.stats.sequential import log_e_value, look_confidence

BASELINE, NULL, CANDIDATE = 0, 1, 2


@dataclass(frozen=True)
class Host:
    launch_sd: float = 0.0185
    block_sd: float = 0.03
    autocorrelation: float = 0.3
    drift_sd: float = 0.02
    spike_rate: float = 0.05
    spike_factor: float = 1.3
    base_ns: float = 2.5e6


def times_ns(host: Host, ratio: float, shape: tuple[int, int, int], random: np.random.Generator):
    """Block values (sessions, arms A / A' / B, launches, blocks), ns; ``shape`` is sessions, launches, blocks."""
    sessions, launches, blocks = shape
    full = (sessions, 3, launches, blocks)
    shared = (sessions, 1, launches, blocks)
    log = np.cumsum(random.normal(0, host.drift_sd, shared), axis=-1) + random.normal(
        0, 0.2, (sessions, 1, launches, 1)
    )
    log = log + random.normal(0, host.launch_sd / math.sqrt(2), (sessions, 3, launches, 1))
    log = log + _ar1(full, host.autocorrelation, random) * host.block_sd / math.sqrt(2)
    log = log + math.log(host.spike_factor) * (random.random(full) < host.spike_rate)
    log[:, CANDIDATE] += math.log(ratio)
    return host.base_ns * np.exp(log)


def _ar1(shape, phi, random):
    """Stationary AR(1) of unit variance along the last axis."""
    out = random.standard_normal(shape)
    for i in range(1, shape[-1]):
        out[..., i] = phi * out[..., i - 1] + math.sqrt(1 - phi**2) * out[..., i]
    return out


def logs_of(times, *, both: bool):
    """Block log ratios of candidate and null control, each (sessions, launches, blocks, columns)."""
    log = np.log(times)
    columns = [log[:, CANDIDATE] - log[:, BASELINE], log[:, CANDIDATE] - log[:, NULL]]
    return np.stack(columns if both else columns[:1], axis=-1), (log[:, NULL] - log[:, BASELINE])[..., None]


def launch_estimates(logs):
    """Mean over columns of the Hodges-Lehmann estimates of every launch, (sessions, launches)."""
    columns = np.moveaxis(logs, -1, -2)
    flat = columns.reshape(-1, logs.shape[-2])
    parts = [hodges_lehmann_rows(part) for part in np.array_split(flat, max(1, len(flat) // 4000))]
    return np.concatenate(parts).reshape(columns.shape[:-1]).mean(axis=-1)


def decide_all(candidate, null, rule):
    """:func:`harness.stats.rule.decide` for many sessions at once, with the t interval alone.

    :param candidate: (sessions, launches, blocks, columns) log ratios; :param null: likewise, A' against A.
    :returns: final words (sessions,) and launches used (sessions,).
    """
    d0, d1 = rule.margins.log_tolerated, rule.margins.log_caught
    means, null_means = launch_estimates(candidate), launch_estimates(null)
    said = _launch_words(candidate.mean(axis=-1), d0, d1, rule.proposal_alpha) if rule.proposal_alpha else None
    words = np.full(len(means), "", object)
    used = np.full(len(means), rule.looks[-1])
    for n in range(2, rule.looks[-1] + 1):
        if n in rule.looks:
            level = look_confidence(rule.looks.index(n), rule.looks, rule.alpha, spending=rule.spending)
            got = _judge_all(means[:, :n], null_means[:, :n], level, d0, d1)
            _end(words, used, n, got, (got != "inconclusive") | (n == rule.looks[-1]))
        if said is not None:
            got = _judge_all(means[:, :n], None, 1 - rule.alpha, d0, d1)
            with_null = _judge_all(means[:, :n], null_means[:, :n], 1 - rule.alpha, d0, d1)
            same = (said[:, :n] == got[:, None]).sum(axis=1)
            other = ((said[:, :n] != "") & (said[:, :n] != got[:, None])).sum(axis=1)
            _end(words, used, n, with_null, (same >= rule.agree) & (other == 0))
    return words, used


def rates(words):
    """Share of each word, 0 to 1."""
    known = ("pass", "minor", "regression", "improved", "inconclusive", "invalid")
    return {word: float(np.mean(words == word)) for word in known}


def _end(words, used, n, got, where):
    ends = (words == "") & where
    words[ends], used[ends] = got[ends], n


def _judge_all(means, null_means, level, d0, d1):
    n = means.shape[1]
    half = stats.t.isf((1 - level) / 2, n - 1) * means.std(axis=1, ddof=1) / math.sqrt(n)
    low, high = means.mean(axis=1) - half, means.mean(axis=1) + half
    words = np.full(len(means), "inconclusive", object)
    words[high < d1] = "pass"
    words[(low > d0) & (high < d1)] = "minor"
    words[(low > d0) & (high >= d1)] = "regression"
    words[high < -d0] = "improved"
    if null_means is not None:
        words[np.isin(_judge_all(null_means, None, level, d0, d1), ("regression", "improved", "minor"))] = "invalid"
    return words


def _launch_words(logs, d0, d1, alpha):
    limit, n = -math.log(alpha), np.arange(1, logs.shape[-1] + 1)

    def ever(hits):
        counts = np.cumsum(hits, axis=-1)
        table = log_e_value(np.minimum(np.arange(n[-1] + 1)[:, None], n), n)  # (successes, n): every value there is
        return table[counts, n - 1].max(axis=-1) >= limit

    above, below = ever(logs > d0), ever(logs < d1)
    words = np.full(logs.shape[:2], "", object)
    words[above & ~below], words[below & ~above], words[ever(logs < -d0)] = "regression", "pass", "improved"
    return words
