"""Measuring measured: turns, ratios, ceilings, and the sentences made of them."""

from __future__ import annotations

import itertools
import json
import sys
import types

import pytest
import torch
import torch._dynamo

import fastgan
from fastgan import models
from fastgan.loading import open_model
from fastgan.measure import ceilings, machine, timing
from fastgan.measure.bench import advice, peers, table
from fastgan.measure.bench.report import Cost, Report, Result
from fastgan.measure.reference import as_module
from fastgan.measure.subject import batch_of, example_inputs, fed, run_batched
from fastgan.measure.timing import Samples, ratio, take_turns


class Clock:
    """Time that passes only when a contender works or somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.log.append("sleep")
        self.now += seconds

    def worker(self, name: str, seconds: float):
        def work() -> None:
            self.log.append(name)
            self.now += seconds

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_every_contender_is_timed_for_what_it_takes(clock) -> None:
    work = {"quick": clock.worker("quick", 0.002), "slow": clock.worker("slow", 0.4)}
    samples = take_turns(work, seconds=10.0)
    assert samples["quick"].median == pytest.approx(0.002)
    assert samples["slow"].median == pytest.approx(0.4)
    assert len(samples["quick"].turns) == len(samples["slow"].turns) >= 10
    assert 45 <= len(samples["quick"].turns[0]) <= 51  # a tenth of a second of runs
    assert len(samples["slow"].turns[0]) == 1


def test_a_turn_begins_untimed(clock) -> None:
    """50 ms of runs, or of rest before long ones, come before the first that counts."""
    take_turns({"quick": clock.worker("quick", 0.012)}, seconds=0.0, least_turns=1)
    assert clock.log.count("quick") == 1 + 5 + 8  # once, 50 ms untimed, up to 100 ms timed
    clock.log.clear()
    take_turns({"slow": clock.worker("slow", 1.0)}, seconds=0.0, least_turns=2)
    assert clock.log == ["slow", "sleep", "slow", "sleep", "slow"]


def test_the_order_changes_from_round_to_round(clock) -> None:
    work = {name: clock.worker(name, 1.0) for name in "abc"}
    take_turns(work, seconds=0.0, least_turns=3)
    order = [name for name in clock.log if name != "sleep"][3:]
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


def test_turns_are_never_fewer_than_asked_for(clock) -> None:
    samples = take_turns({"slow": clock.worker("slow", 100.0)}, seconds=1.0, least_turns=3)
    assert len(samples["slow"].turns) == 3


def test_synchronise_is_part_of_the_time(clock) -> None:
    samples = take_turns(
        {"launch": clock.worker("launch", 0.001)},
        seconds=0.0,
        synchronise=clock.worker("wait", 0.5),
    )
    assert samples["launch"].median == pytest.approx(0.501)


def test_progress_goes_from_0_to_1(clock) -> None:
    seen: list[float] = []
    take_turns({"a": clock.worker("a", 0.3)}, seconds=3.0, on_progress=seen.append)
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.5
    assert seen[-1] == 1.0


def test_a_ratio_is_taken_turn_by_turn() -> None:
    """A machine that slows down tenfold half-way changes neither ratio nor spread."""
    slow = Samples([[4.0, 4.0, 9.0], [40.0], [4.0]])
    fast = Samples([[2.0], [20.0, 1.0, 20.0], [2.0]])
    found = ratio(slow, fast)
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)


def test_percentiles_are_samples() -> None:
    samples = Samples([[float(i) for i in range(1, 101)]])
    assert (samples.percentile(0), samples.percentile(90), samples.percentile(99)) == (1, 91, 100)
    assert Samples([[7.0]]).percentile(99) == 7.0


# The report --------------------------------------------------------------------------------------


def report_of(**medians: tuple[float, ...]) -> Report:
    """A report at n = 1 and 64 with these seconds for each contender."""
    report = Report("m.onnx", "Generator()", 2, "cpu", dict.fromkeys(medians, "x"), {"fp32": 100.0})
    for n, index in ((1, 0), (64, 1)):
        # 10 operations an image; 1 weight and no inputs or outputs: 4 bytes of traffic.
        report.costs[n] = Cost(flops=10 * n, weights=1, ends=0, copy_rate=2.0)
        baseline = Samples([[medians["onnxruntime"][index]]] * 3)
        for name, seconds in medians.items():
            samples = Samples([[seconds[index]]] * 3)
            shown = name.replace("_", " ")
            report.results.append(Result(n, shown, samples, "fp32", ratio(baseline, samples)))
    return report


def test_roofline_is_the_least_time_over_the_time_taken() -> None:
    report = report_of(onnxruntime=(4.0, 8.0), fastgan=(20.0, 12.8))
    single, many = report.get(1, "fastgan"), report.get(64, "fastgan")
    assert report.roofline(single) == pytest.approx(2.0 / 20.0)  # 4 bytes at 2 per second
    assert report.roofline(many) == pytest.approx(6.4 / 12.8)  # 640 operations at 100 per second
    lines = advice.advise(report)
    assert any(line.startswith("n = 1: bound by memory; 10%") for line in lines)
    assert any(line.startswith("n = 64: bound by arithmetic; 50%") for line in lines)


def test_no_limit_is_named_that_was_beaten() -> None:
    """By what stays in the caches, or as the limit was measured beside other work."""
    report = report_of(onnxruntime=(4.0, 8.0), fastgan=(0.2, 12.8))
    lines = [line for line in advice.advise(report) if "bound by" in line]
    assert lines == ["n = 64: bound by arithmetic; 50% of the speed of a plain matrix product"]


def test_half_precision_halves_the_weights_traffic() -> None:
    cost = Cost(flops=1, weights=1000, ends=10, copy_rate=1.0)
    assert (cost.bytes("fp32"), cost.bytes("bf16")) == (4010, 2010)


def test_advice_names_bf16_batches_and_a_faster_peer() -> None:
    report = report_of(
        onnxruntime=(1.0, 16.0), fastgan=(2.0, 8.0), fastgan_bf16=(2.0, 2.0), fastgan_fed=(2.0, 8.0)
    )
    text = "\n".join(advice.advise(report))
    assert "bf16 is available: 4.0x at n = 64" in text
    assert "n = 64 gives 16.0x the images per second of n = 1" in text
    assert "n = 1: plain ONNX Runtime is 2.00x faster" in text
    assert "n = 64: plain" not in text
    assert "busy" not in text


def test_the_table_and_json_hold_every_result() -> None:
    report = report_of(onnxruntime=(1.0, 16.0), fastgan=(2.0, 8.0))
    report.skipped.append("openvino: not installed")
    rows = table.rows(report)
    assert [row[:2] for row in rows] == list(
        itertools.product(("1", "64"), ("onnxruntime", "fastgan"))
    )
    assert "2.00x" in rows[3]
    text = table.markdown(report)
    assert text.count("\n| ") == 4
    assert "not run: openvino: not installed" in text
    record = json.loads(json.dumps(report.as_json(["fastgan", "bench"])))
    assert record["results"][3]["samples"] == [[8.0]] * 3
    assert record["results"][3]["share_of_roofline"] == pytest.approx(6.4 / 8.0)


def test_ceilings_are_rates_of_this_machine(monkeypatch) -> None:
    monkeypatch.setattr(ceilings, "_MATRIX", {"cpu": 256})
    rates = ceilings.products(torch.device("cpu"), ["fp32", "bf16"])
    assert set(rates) == {"fp32", "bf16"}
    assert all(1e7 < rate < 1e15 for rate in rates.values())
    assert 1e6 < ceilings.copies(torch.device("cpu"), 1 << 20) < 1e13


def test_the_machine_is_described_without_raising(monkeypatch) -> None:
    facts = machine.describe()
    json.dumps(facts)
    assert facts["cpu"]["cores"] >= 1
    assert facts["versions"]["torch"]
    monkeypatch.setenv("PATH", "")
    assert machine.gpus() == []
    assert machine.command("no-such-program") is None


def test_tensorrt_says_why_it_does_not_take_part(monkeypatch) -> None:
    def setting(device: str) -> peers.Setting:
        return peers.Setting(None, torch.device(device), 1, None, "")

    with pytest.raises(peers.MissingError, match="NVIDIA GPUs alone"):
        peers.PEERS["tensorrt"](setting("cpu"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(peers.MissingError, match="pip install tensorrt"):
        peers.PEERS["tensorrt-fp16"](setting("cuda"))
    flags = types.SimpleNamespace(TF32=1)
    newest = types.SimpleNamespace(BuilderFlag=flags, __version__="11.4.0")
    monkeypatch.setitem(sys.modules, "tensorrt", newest)
    with pytest.raises(peers.MissingError, match=r"11\.4\.0 takes its types from the file"):
        peers.PEERS["tensorrt-fp16"](setting("cuda"))


@pytest.mark.parametrize("name", models.names())
def test_torch_compile_makes_one_graph_of_a_file(name: str) -> None:
    """Cut in pieces it would be a peer with its hands tied."""
    model = open_model(name)
    inputs = list(example_inputs(model, 1).values())
    torch._dynamo.reset()
    module = as_module(model, 1)
    with torch.inference_mode():
        compiled = torch.compile(module, fullgraph=True, dynamic=False, backend="eager")
        for made, expected in zip(compiled(*inputs), module(*inputs), strict=True):
            assert torch.equal(made, expected)


@pytest.mark.parametrize(("name", "n"), [("superres-x4", 5), ("dcgan-digits", 40)])
def test_what_is_timed_makes_what_single_batches_make(name: str, n: int) -> None:
    generator, model = fastgan.load(name, device="cpu"), open_model(name)
    given = example_inputs(model, n)
    made = fed(generator, given, n)()
    assert batch_of(generator) < n, "several batches"
    assert torch.equal(made, run_batched(generator, given, model.output.name, 1))
