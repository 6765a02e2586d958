"""`fastgan bench --fps` and the errors of `fastgan live`."""

from __future__ import annotations

import json
import socket

import pytest


def test_bench_at_a_rate_accounts_for_every_frame(fastgan, rgb, tmp_path, monkeypatch) -> None:
    from fastgan.measure import rates

    monkeypatch.setattr(rates, "_TRIAL_SECONDS", 0.1)
    monkeypatch.setattr(rates, "_MOST_TRIALS", 3)
    result = fastgan(
        "bench", rgb, "--fps", "100", "--seconds", "1", "--json", tmp_path / "rate.json",
        "--plot", tmp_path / "rate.png",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "deadlines missed:" in result.out
    assert "highest rate that holds:" in result.out
    run = json.loads((tmp_path / "rate.json").read_text())["run"]
    assert run["due"] == 100
    assert run["uncounted"] == 0
    assert run["produced"] + run["skipped"] == 100
    assert run["missed"] >= run["skipped"] / 100
    assert run["compute"]["count"] == run["produced"]
    assert (tmp_path / "rate.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("--fps", ("--fps", "0")),
        ("--seconds", ("--fps", "60", "--seconds", "0")),
        ("--peers", ("--fps", "60", "--peers", "none")),
        ("--n", ("--fps", "60", "--n", "1,2")),
        ("plot", ("--fps", "60", "--plot", "rate.txt")),
    ],
)
def test_bad_options_of_bench_are_one_line(fastgan, rgb, says, arguments) -> None:
    result = fastgan("bench", rgb, *arguments)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_live_refuses_in_one_line(fastgan, rgb) -> None:
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'fastgan[live]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for says, arguments in (
            (f"port: found {port}, which is in use", ("--port", port)),
            ("port", ("--port", "70000")),
            ("format", ("--format", "bmp")),
            ("quality", ("--quality", "0")),
            ("--seeds", ("--seeds", "x")),
            ("labels", ("--class", "2")),
            ("budget_ms", ("--budget-ms", "0.00001")),
            ("pip install cyndilib", ("--ndi", "stage")),
            ("--fps", ("--fps", "0")),
            ("--seeds: found a model that takes pictures", ("--seeds", "1-2", "of pictures")),
            ("--size: found a model that takes pictures", ("--size", "64x64", "of pictures")),
            ("--class", ("--class", "2", "of pictures")),
        ):
            model = rgb
            if arguments[-1] == "of pictures":
                model, arguments = "superres-x2", arguments[:-1]
            result = fastgan("live", model, *arguments)
            assert result.code == 2, result
            assert says in result.err
            assert len(result.err.strip().splitlines()) == 1, result.err
