"""Files: what is no plain one, where none can be put, and wholes that appear at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fastgan.errors import ArgumentError
from fastgan.host import files


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    for name, reason in (
        ("pipe", "a named pipe"),
        ("link", "a named pipe"),
        ("zero", "a device"),
        ("socket", "a socket"),
        ("loop", "symbolic links"),
        (".", "directory"),
        ("nothing", "No such file"),
    ):
        with pytest.raises(OSError, match=reason):
            files.open_plain(tmp_path / name)
    (tmp_path / "plain").write_bytes(b"data")
    with files.open_plain(tmp_path / "plain") as file:
        assert file.read() == b"data"


@pytest.mark.parametrize(
    ("path", "words"),
    [("-", "standard"), ("https://host/a.png", "URL"), ("s3:/bucket/a", "URL"), ("FTP://a", "URL")],
)
def test_what_is_no_path(path: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"--out.*{words}"):
        files.check_path("--out", Path(path))


def test_what_looks_like_a_url_and_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    for path in ("s3:/bucket", "c:/users", "a:b/c", "photos/http://x"):
        files.check_path("--out", path)


def test_where_no_file_can_be_put(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path, reason in ((tmp_path, "folder"), ("pipe", "pipe"), ("null", "device")):
        with pytest.raises(ArgumentError, match=reason):
            files.check_target("--out", tmp_path / path)
    files.check_target("--out", tmp_path / "new" / "file")


def test_nothing_that_is_read_is_replaced_under_any_name(tmp_path: Path) -> None:
    source = tmp_path / "in" / "source"
    source.parent.mkdir()
    source.write_text("")
    (tmp_path / "soft").symlink_to(source)
    os.link(source, tmp_path / "hard")
    (tmp_path / "folder").symlink_to("in")
    for name in ("in/source", "soft", "hard", "folder/source", "in/../in/source"):
        with pytest.raises(ArgumentError, match="source would be lost"):
            files.check_target("--out", tmp_path / name, (None, source))
    (tmp_path / "loop").symlink_to("loop")
    files.check_target("--out", tmp_path / "loop", (source,))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)  # as long as names may be, nearly
    path.write_text("before")

    def fail() -> None:
        with files.whole(path) as file:
            file.write(b"half")
            file.flush()
            assert path.read_text() == "before"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]
    with files.whole(path) as file:
        file.write(b"after")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["after"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from fastgan.host import files\n"
    code += "with files.whole(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".fastgan-")
    (tmp_path / ".fastgan-notes.part.png").write_text("another's")
    with files.whole(tmp_path / "b.png"):
        files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".fastgan-notes.part.png", "b.png"]
