"""Models by address, from a server on this machine; the hub's as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import fastgan
from fastgan import models
from fastgan.errors import ArgumentError, BackendError, LimitError, ModelFileError
from fastgan.limits import Limits
from fastgan.model import remote

for package in ("aiohttp", "fsspec", "huggingface_hub"):
    pytest.importorskip(package, reason=f"no {package}: pip install 'fastgan[hub]'")

DATA = models.path("dcgan-digits").read_bytes()
SHA = hashlib.sha256(DATA).hexdigest()


class Keeper(ThreadingHTTPServer):
    """A server of one model, which counts how often it was asked."""

    daemon_threads = True
    data, asked, short = DATA, 0, False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server = self.server
        server.asked += body
        if not self.path.endswith((".onnx", "/resolve/v1/d/m.onnx")):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.data) + 9 * server.short))
        self.send_header("ETag", f'"{hashlib.sha256(server.data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if body:
            self.wfile.write(server.data)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Keeper]:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTGAN_OFFLINE", raising=False)
    kept = Keeper(("127.0.0.1", 0), Handler)
    threading.Thread(target=kept.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", kept.url)
    template = kept.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield kept
    kept.shutdown()
    kept.server_close()


def test_an_address_is_loaded_and_kept(server, monkeypatch) -> None:
    url = f"{server.url}/a/m.onnx#sha256={SHA.upper()}"
    generator = fastgan.load(url, device="cpu", backend="torch")
    assert generator.path is not None
    assert generator.path.name == "m.onnx"
    expected = fastgan.load("dcgan-digits", device="cpu", backend="torch").generate(2)
    assert generator.generate(2).equal(expected)
    asked = server.asked
    monkeypatch.setenv("FASTGAN_OFFLINE", "1")
    again = pickle.loads(pickle.dumps(generator))
    assert again.generate(2).equal(expected)
    assert server.asked == asked
    with pytest.raises(ModelFileError, match="FASTGAN_OFFLINE is set"):
        remote.fetch(f"{server.url}/other.onnx", Limits())


def test_a_command_takes_an_address(server, tmp_path) -> None:
    from typer.testing import CliRunner

    from fastgan.cli import app

    words = ["generate", f"{server.url}/m.onnx", "--outdir", str(tmp_path / "out")]
    assert CliRunner().invoke(app(), words).exit_code == 0
    assert (tmp_path / "out" / "sample000000.png").exists()
    assert "dcgan" not in CliRunner().invoke(app(), ["inspect", f"{server.url}/m.onnx"]).stderr


def test_what_is_kept_is_checked_again_and_fetched_anew(server) -> None:
    kept = remote.fetch(f"{server.url}/m.onnx", Limits())
    kept.write_bytes(b"something else")
    assert remote.fetch(f"{server.url}/m.onnx#sha256={SHA}", Limits()).read_bytes() == DATA


def test_another_file_than_was_said_is_not_kept(server) -> None:
    server.data = DATA + b"\0"
    with pytest.raises(ModelFileError, match="SHA-256"):
        remote.fetch(f"{server.url}/m.onnx#sha256={SHA}", Limits())
    server.data = DATA
    assert remote.fetch(f"{server.url}/m.onnx#sha256={SHA}", Limits()).read_bytes() == DATA


def test_no_more_is_fetched_than_a_file_may_hold(server, tmp_path) -> None:
    few = Limits(file_bytes=1000)
    for url in (f"{server.url}/m.onnx", "hf://some/one/m.onnx"):
        with pytest.raises(LimitError, match="1000 bytes"):
            remote.fetch(url, few)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 9]


def test_half_a_file_is_none(server, tmp_path) -> None:
    server.short = True
    with pytest.raises(ModelFileError, match="the network"):
        remote.fetch(f"{server.url}/m.onnx", Limits())
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_no_server_and_no_file_are_one_line(server) -> None:
    reasons = {f"{server.url}/none.txt": "found 404", "http://127.0.0.1:9/m.onnx": "found Cannot"}
    for url, reason in reasons.items():
        with pytest.raises(ModelFileError, match=f"{reason}.*needed the network") as caught:
            remote.fetch(url, Limits())
        assert "\n" not in str(caught.value)


def test_the_hub(server, monkeypatch) -> None:
    path = remote.fetch("hf://some/one@v1/d/m.onnx", Limits())
    assert path.read_bytes() == DATA
    asked = server.asked
    assert remote.fetch("hf://some/one@v1/d/m.onnx", Limits()) == path
    assert server.asked == asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert remote.fetch("hf://some/one@v1/d/m.onnx", Limits()) == path
    with pytest.raises(ModelFileError, match=r"hf://some/one@v1/d/n\.onnx"):
        remote.fetch("hf://some/one@v1/d/n.onnx", Limits())


def test_without_the_hub_what_is_kept_will_do(server, monkeypatch) -> None:
    """And where nothing is, that is one error at once: huggingface_hub itself tries six times."""
    path = remote.fetch("hf://some/one@v1/d/m.onnx", Limits())
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert remote.fetch("hf://some/one@v1/d/m.onnx", Limits()) == path
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(ModelFileError, match="refused; needed the network, or a file") as caught:
        remote.fetch("hf://some/one@v1/d/n.onnx", Limits())
    assert "\n" not in str(caught.value)
    assert not slept


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("hf://owner/file.onnx", "hf://owner/name/file.onnx"),
        ("https://example.org/m.onnx#md5=0", "#sha256="),
        ("http://example.org/m.onnx", "https://"),
    ],
)
def test_addresses_that_are_none(url, found) -> None:
    with pytest.raises(ArgumentError, match=found):
        remote.fetch(url, Limits())


@pytest.mark.parametrize(
    ("url", "package"),
    [("hf://a/b/c.onnx", "huggingface_hub"), ("https://127.0.0.1:9/m.onnx", "fsspec")],
)
def test_without_the_extra(url, package, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(BackendError, match=r"fastgan\[hub\]"):
        remote.fetch(url, Limits())
