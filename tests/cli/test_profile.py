"""`fastgan profile`: a time for every step, the parts of a trace, and memory as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import fastgan as library
from fastgan import models
from fastgan.measure import ceilings


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ceilings._MATRIX, "cpu", 128)


def test_each_step_once_with_its_nodes(fastgan: Callable[..., Any]) -> None:
    done = fastgan("profile", "superres-x2", "--size", "24x16", "--repeats", "2", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    plan = library.load("superres-x2", device="cpu").plan()
    assert plan is not None
    assert sorted(step["step"] for step in facts["steps"]) == [
        number for number, _ in enumerate(plan.steps, 1)
    ]
    by_number = {step["step"]: step for step in facts["steps"]}
    assert [by_number[i + 1]["origin"] for i in range(len(plan.steps))] == [
        list(step.origin) for step in plan.steps
    ]
    assert by_number[len(plan.steps)]["output"] == [1, 3, 32, 48]
    assert sum(step["share"] for step in facts["steps"]) == pytest.approx(1.0)
    times = [step["seconds"] for step in facts["steps"]]
    assert times == sorted(times, reverse=True)
    assert min(times) > 0
    assert all(step["floor_seconds"] > 0 for step in facts["steps"])
    assert {step["bound"] for step in facts["steps"]} <= {"compute", "memory"}


def test_onnx_runtime_times_its_nodes_itself(
    fastgan: Callable[..., Any], rgb: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "made" / "ort.json"
    options = ("--backend", "ort", "--batch", "3", "--repeats", "2")
    done = fastgan("profile", rgb, *options, "--json", "--trace", trace)
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert {"ConvTranspose", "Tanh"} <= {step["op"] for step in facts["steps"]}
    assert any(step["output"] == [3, 3, 8, 8] for step in facts["steps"])
    assert all(step["floor_seconds"] is None for step in facts["steps"])
    assert any(event.get("cat") == "Node" for event in json.loads(trace.read_text()))
    table = fastgan("profile", rgb, *options)
    assert "its own profiler" in table.out
    assert "floor" not in table.out


def test_a_trace_has_the_names_of_the_steps(fastgan: Callable[..., Any], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    command = ("profile", "superres-x2", "--size", "16x16", "--repeats", "1")
    assert fastgan(*command, "--trace", trace).code == 0
    events = json.loads(trace.read_text())["traceEvents"]
    names = [event["name"] for event in events if event.get("ph") == "X"]
    assert sum(name.startswith("1 Conv") for name in names) == 3


def test_memory_as_a_picture(fastgan: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "memory.svg"
    command = ("profile", "superres-x2", "--size", "16x16", "--repeats", "1")
    assert fastgan(*command, "--arena", picture).code == 0
    tree = ElementTree.parse(picture)
    plan = library.load("superres-x2", device="cpu").plan()
    assert plan is not None
    boxes = [e for e in tree.iter() if e.get("id", "").startswith("FillBetweenPolyCollection")]
    boxes = boxes or [e for e in tree.iter() if "Collection" in e.get("id", "")]
    assert len(boxes) == len(plan.buffers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "15x0"), "--size"),
        (("--arena", "memory.xyz"), "--arena"),
        (("--backend", "ort", "--arena", "memory.png"), "plans for itself"),
        (("--trace", "-"), "--trace"),
    ],
)
def test_what_cannot_be_is_said(
    fastgan: Callable[..., Any], rgb: Path, tmp_path: Path, options: tuple[str, ...], said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = fastgan("profile", rgb, *options)
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_model_lacks(fastgan: Callable[..., Any], rgb: Path) -> None:
    done = fastgan("profile", rgb, "--size", "64x64")
    assert done.code == 2
    assert "one size" in done.err


def test_sizes_of_latent_fields(fastgan: Callable[..., Any]) -> None:
    name = next(name for name in models.names() if name.startswith("texture"))
    for size, shape in (("128x128", [1, 3, 128, 128]), ("256x128", [1, 3, 128, 256])):
        done = fastgan("profile", name, "--size", size, "--repeats", "1", "--json")
        assert [1, 1, *shape[2:]] in [step["output"] for step in json.loads(done.out)["steps"]]


def test_no_folder_is_left_by_what_fails(
    fastgan: Callable[..., Any], rgb: Path, tmp_path: Path
) -> None:
    for option in ("--trace", "--arena"):
        target = tmp_path / "made" / "deep" / "x.png"
        assert fastgan("profile", tmp_path / "none.onnx", option, target).code != 0
        assert not (tmp_path / "made").exists()
    below = rgb / "x.json"
    done = fastgan("profile", rgb, "--trace", below)
    assert done.code != 0
    assert "not a directory" in done.err.lower()
