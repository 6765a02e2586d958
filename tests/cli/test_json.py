"""--json: every command that reports does so to programs too, on stdout alone or in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastgan.cli import app


def record(result: Any) -> dict[str, Any]:
    """What stdout holds: one document, and nothing else."""
    found = json.loads(result.out)
    assert isinstance(found, dict)
    return found


def test_generate(fastgan, rgb, tmp_path) -> None:
    result = fastgan("generate", rgb, "--n", 3, "--outdir", tmp_path, "--json", "-")
    assert result.code == 0, result.err
    found = record(result)
    assert (found["command"], found["images"], found["kept"]) == ("generate", 3, 0)
    assert found["backend"] == "torch"
    assert len(found["sha256"]) == 64
    file = tmp_path / "record.json"
    result = fastgan("generate", rgb, "--n", 3, "--outdir", tmp_path, "--resume", "--json", file)
    assert "3 images were there already" in result.out
    assert json.loads(file.read_text())["kept"] == 3


def test_generate_shards_and_verify(fastgan, rgb, tmp_path) -> None:
    out = tmp_path / "shards"
    options = ("--shards", out, "--shard-size", 2, "--json", "-")
    found = record(fastgan("generate", rgb, "--n", 5, *options))
    assert (found["images"], found["shards"], found["failures"]) == (5, 3, [])
    found = record(fastgan("scale", "verify", out, "--json", "-"))
    assert (found["samples"], found["failures"]) == (5, [])
    next(out.glob("*.tar")).unlink()
    result = fastgan("scale", "verify", out, "--json", "-")
    assert result.code == 1
    assert len(record(result)["failures"]) == 1


def test_apply(fastgan, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "good.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "fine.png")
    (folder / "bad.png").write_bytes(b"no picture")
    result = fastgan("apply", "colour-tissue", "-i", folder, "-o", tmp_path / "out", "--json", "-")
    assert result.code == 1
    found = record(result)
    assert {Path(path).name for path in found["written"]} == {"good_out.png", "fine_out.png"}
    assert [Path(failure["source"]).name for failure in found["failed"]] == ["bad.png"]
    again = ("apply", "colour-tissue", "-i", folder / "good.png", "-o", tmp_path / "out")
    found = record(fastgan(*again, "--resume", "--json", "-"))
    assert (found["written"], found["kept"]) == ([], 1)


def test_video(fastgan, rgb, tmp_path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastgan[video]'")
    target = tmp_path / "walk.mp4"
    options = ("--seeds", "0,1", "--w-frames", 2, "--scale", 4, "-o", target, "--json", "-")
    found = record(fastgan("video", rgb, *options))
    assert (found["written"], found["frames"]) == (str(target), 4)
    assert found["bytes"] == target.stat().st_size


def test_stream(fastgan, rgb) -> None:
    name = f"/fastgan-json-{os.getpid()}"
    found = record(fastgan("stream", rgb, "--shm", name, "--frames", 3, "--json", "-"))
    assert found["command"] == "stream"
    assert found["delivered"] >= 1


def test_train(fastgan, tmp_path) -> None:
    small = ("--steps", 1, "--batch", 2, "--size", 32, "--preset", "quick", "--channels", 1)
    data = tmp_path / "data"
    data.mkdir()
    for index in range(4):
        Image.fromarray(np.full((20, 20), 60 * index, np.uint8)).save(data / f"{index}.png")
    options = ("--data", data, "--out", tmp_path / "out", "--json", "-")
    result = fastgan("train", "dcgan", *small, *options)
    assert result.code == 0, result.err
    found = record(result)
    assert (found["steps"], found["recipe"]) == (1, "dcgan")
    assert Path(found["written"]).is_file()


def test_a_place_where_no_record_can_go_is_refused_first(fastgan, rgb, tmp_path) -> None:
    for target in (tmp_path, rgb):
        result = fastgan("generate", rgb, "--outdir", tmp_path / "out", "--json", target)
        assert result.code == 2
        assert "--json" in result.err
    assert not (tmp_path / "out").exists()


def test_every_command_that_reports_has_it() -> None:
    import typer

    group = typer.main.get_command(app())
    silent = {"live", "serve"}  # they run until they are ended
    commands = dict(group.commands)
    commands |= {f"scale {name}": each for name, each in commands.pop("scale").commands.items()}
    without = {
        name
        for name, command in commands.items()
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == silent


def test_the_record_of_generate_replaces_no_picture(fastgan, tmp_path) -> None:
    """Neither one that it is to make again, nor one that it makes."""
    words = ("generate", "dcgan-digits", "--outdir", tmp_path, "--json")
    picture = tmp_path / "sample000000.png"
    done = fastgan(*words, picture)
    assert (done.code, "a result" in done.err, picture.exists()) == (2, True, False)
    assert fastgan(*words, tmp_path / "a.json").code == 0
    before = picture.read_bytes()
    done = fastgan("generate", "--like", picture, "--outdir", tmp_path / "b", "--json", picture)
    assert (done.code, "also read" in done.err) == (2, True)
    assert picture.read_bytes() == before
