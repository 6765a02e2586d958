"""`fastgan selftest` on a rehearsed GPU: in a child that a kernel may end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fastgan
from fastgan.cli import app
from fastgan.measure import selftest
from tests.networks.weights import build

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    module = build(lambda: nn.Sequential(nn.ConvTranspose2d(5, 3, 2), nn.Tanh()), 4).eval()
    path = tmp_path_factory.mktemp("selftest") / "one.onnx"
    fastgan.export(module, path, latent=(5, 1, 1), verify=False)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "wrong linear", "crash linear", "hang linear"])
def test_every_kernel_has_its_verdict(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("FASTGAN_REHEARSAL", fault)
    told: list[dict[str, Any]] = []
    patience = 25.0 if fault.startswith("hang") else 120.0
    rows = selftest.run([model], "cuda:0", "tf32", told.append, patience)
    wrong = {row["what"]: row["verdict"] for row in rows if row["verdict"] != selftest.OK}
    images = [row for row in rows if row["what"].startswith("images")]
    assert len(images) == 2
    assert all(row["verdict"] == selftest.OK for row in images)  # without what is wrong
    assert [row["what"] for row in told] == [row["what"] for row in rows]
    if not fault:
        assert not wrong
        assert any(row["kernel"] for row in rows)
    else:
        assert all("Linear" in what for what in wrong)
        words = {"wrong": "off by", "crash": "signal 9", "hang": "hung"}
        assert words[fault.split()[0]] in next(iter(wrong.values()))


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {"model": "", "what": "start", "kernel": "", "format": "", "verdict": "no GPU"}
    monkeypatch.setattr(selftest, "run", lambda *_: [lost])
    done = CliRunner().invoke(app(), ["selftest", "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["wrong"] == 1
