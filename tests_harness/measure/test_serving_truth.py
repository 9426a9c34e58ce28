"""What the suite says of servers whose queues are known. Time is virtual: nothing is waited for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.core.serving_records import SloEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival
from enginegate.gates.order_statistics import percentile
from enginegate.measure.serving.figures import figures, latencies
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, arrival_times, drawn
from enginegate.measure.serving.timeline import run_of
from scipy.optimize import brentq


def serve(trace, server, **options):
    arrivals = [
        Arrival((1,) * size, SamplingParams(tokens), time)
        for time, size, tokens in zip(trace.times, trace.input_lens, trace.output_lens, strict=True)
    ]
    return run_of(trace, server.events(arrivals), subject="mock", **options)


def trace_of(kind, rate, count, seed=0, tokens=8, **options):
    return drawn(kind, rate, count, LengthPairs(((16, tokens),)), seed=seed, **options)


def markov(rate, service_rate, servers, count, seed):
    """M/M/c: Poisson arrivals, exponential service."""
    service = np.random.default_rng([seed, 7]).exponential(1 / service_rate, count)
    trace = trace_of("poisson", rate, count, seed, tokens=2)
    return serve(trace, MockServer(servers, service.tolist()), warmup=0.05)


def covers(run, truth):
    """By share of the percentile, whether its interval holds what is true."""
    found = {share: percentile(latencies(run, "e2el"), share) for share in truth}
    assert all(each.low <= each.value <= np.nan_to_num(each.high, nan=math.inf) for each in found.values())
    return {
        share: found[share].low <= value <= np.nan_to_num(found[share].high, nan=math.inf)
        for share, value in truth.items()
    }


def test_one_server_of_half_a_second_beyond_capacity():
    # A public benchmark, which began to count as it sent, one request at a time, said p99 = 507 ms of such a server;
    # from when requests were due it was 3,330 ms, and 1,932 ms on the mean (its gaps were drawn; these are even).
    count, rate, service = 8, 10.0, 0.5
    run = serve(trace_of("constant", rate, count), MockServer(1, [service] * count))
    said = figures(run, SloEntry())
    waits = service + (service - 1 / rate) * np.arange(count)
    assert latencies(run, "e2el") == pytest.approx(waits)
    assert said.percentiles["e2el"]["p99"].value == pytest.approx(np.quantile(waits, 0.99))
    assert said.percentiles["e2el"]["p99"].value == pytest.approx(3.330, rel=0.02)
    assert said.means["e2el"] == pytest.approx(1.932, rel=0.02)
    assert run.why_not == []
    closed_loop = np.asarray(run.finished) - np.maximum(np.asarray(run.due), [0.0, *run.finished[:-1]])
    assert np.quantile(closed_loop, 0.99) == pytest.approx(0.5)  # what it would say if it waited for each answer


def test_one_server_below_capacity_waits_for_nobody():
    run = serve(trace_of("constant", 1.9, 50), MockServer(1, [0.5] * 50))
    assert latencies(run, "e2el") == pytest.approx(0.5)


def single_markov(load):
    """M/M/1: the time in the system is exponential with rate mu - lambda."""
    return {share: -math.log(1 - share) / (1 - load) for share in (0.5, 0.9, 0.95, 0.99)}


def erlang_c(servers, offered):
    """Probability that a request waits in M/M/c."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


def several_markov(servers):
    """M/M/c at a load of c - 1: a request waits with Erlang's chance, for an exponential time of rate 1."""
    waits = erlang_c(servers, servers - 1.0)
    return {
        share: brentq(lambda t, share=share: math.exp(-t) * (1 + waits * t) - (1 - share), 0, 50)
        for share in (0.5, 0.9, 0.95, 0.99)
    }


def test_markov_servers_lie_within_their_intervals():
    single = covers(markov(0.5, 1.0, 1, 3000, 1), single_markov(0.5))
    several = covers(markov(3.0, 1.0, 4, 3000, 1), several_markov(4))
    assert all(single.values()), single
    assert all(several.values()), several


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("servers", "rate", "truth"),
    [(1, 0.5, single_markov(0.5)), (1, 0.7, single_markov(0.7)), (4, 3.0, several_markov(4))],
    ids=["one at half load", "one at 0.7", "four at 0.75"],
)
def test_intervals_of_markov_servers_cover_as_often_as_they_say(servers, rate, truth):
    seeds = 30
    runs = [markov(rate, 1.0, servers, 6000, seed) for seed in range(seeds)]
    assert all(not run.why_not for run in runs)
    covered = [covers(run, truth) for run in runs]
    for share in truth:  # 95 % each: 25 or fewer of 30 would be seen once in 60 tries
        assert sum(each[share] for each in covered) >= 26


def test_a_request_that_waits_in_a_queue_counts_for_less_than_one():
    quiet, busy = markov(0.1, 1.0, 1, 2000, 1), markov(0.9, 1.0, 1, 2000, 1)
    widths = []
    for run in (quiet, busy):
        found = percentile(latencies(run, "e2el"), 0.5)
        widths.append((found.high - found.low) / found.value)
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_tokens_are_counted_not_the_messages_that_bring_them(chunk):
    trace = trace_of("constant", 1.0, 20, tokens=64)
    run = serve(trace, MockServer(1, [0.5] * 20, chunk=chunk))
    assert run.tokens == [64] * 20
    said = figures(run, SloEntry())
    # 64 tokens in half a second, the first after a tenth of it: 63 gaps that fill the rest, however they come
    assert said.means["tpot"] == pytest.approx(0.45 / 63)
    assert said.tokens_per_second == pytest.approx(64, rel=0.06)
    assert run.why_not == []
    assert run.peak_tokens >= 64


def test_arrivals_are_those_that_were_asked_for():
    for kind, burstiness, spread in (("constant", 1, 0.0), ("poisson", 1, 1.0), ("gamma", 4, 2.0)):
        times = np.asarray(arrival_times(kind, 50.0, 20_000, seed=3, burstiness=burstiness))
        gaps = np.diff(times)
        assert gaps.min() >= 0
        assert gaps.std() / gaps.mean() == pytest.approx(spread, rel=0.05, abs=1e-6)
        assert len(times) / (times[-1] + gaps.mean()) == pytest.approx(50.0, rel=1e-3)
    assert arrival_times("poisson", 5, 100, seed=1) == arrival_times("poisson", 5, 100, seed=1)
    assert arrival_times("poisson", 5, 100, seed=1) != arrival_times("poisson", 5, 100, seed=2)


def test_a_trace_at_another_rate_has_the_same_requests():
    trace = trace_of("gamma", 2.0, 100, burstiness=3)
    faster = trace.at_rate(8.0)
    assert faster.times == pytest.approx([time / 4 for time in trace.times])
    assert faster.output_lens == trace.output_lens
    assert faster.digest != trace.digest


def test_goodput_counts_who_keeps_all_limits():
    run = serve(trace_of("constant", 2.5, 30), MockServer(1, [0.5] * 30))
    said = figures(run, SloEntry(e2el=1.0))
    assert said.kept == pytest.approx(6 / 30)  # the k-th request takes 0.5 + 0.1 k seconds
    assert said.goodput == pytest.approx(6 / 11.6)  # of the 23 that were answered until the last arrival
    assert said.requests_per_second == pytest.approx(23 / 11.6)
    assert figures(run, SloEntry(e2el=1.0, ttft=0.6)).kept == pytest.approx(6 / 30)  # TTFT is 0.05 + 0.1 k
    assert figures(run, SloEntry(ttft=0.2)).kept == pytest.approx(2 / 30)
    assert figures(run, SloEntry(tpot=0.01)).kept == 0.0
    assert figures(run, SloEntry()).kept == 1.0
