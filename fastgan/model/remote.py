"""Models where people keep them: hf://owner/name/file.onnx and https://..., each in a cache.

The Hugging Face hub's files are huggingface_hub's to fetch and keep: with its cache, its token and
its switch HF_HUB_OFFLINE. Others come by fsspec, are kept under FASTGAN_CACHE (or `fastgan` in the
user's cache folder) by their address, and not asked for again. `https://...#sha256=HEX` says what
the file must be.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fastgan.errors import ArgumentError, BackendError, LimitError, ModelFileError
from fastgan.host import files
from fastgan.limits import Limits, size_text
from fastgan.model.origin import digest

#: Seconds without a byte after which an answer is no longer waited for.
_PATIENCE = 30
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([^/]+))?/(.+)")
_SHA256 = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


def fetch(url: str, limits: Limits) -> Path:
    """The file on this machine, fetched where it is not kept already.

    Raises:
        ArgumentError: the address is not of one of these forms.
        BackendError: what fetches it is not installed.
        LimitError: it is larger than a model file may be.
        ModelFileError: it is not to be had, or not the file that its checksum says.
    """
    return _hub(url, limits) if url.startswith("hf://") else _web(url, limits)


def _hub(url: str, limits: Limits) -> Path:
    match = _HUB.fullmatch(url)
    if match is None:
        raise ArgumentError(
            "source", repr(url), "hf://owner/name/file.onnx, or hf://owner/name@revision/file.onnx"
        )
    repository, revision, file = match.groups()
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise _missing(url, "huggingface_hub") from None
    size, away = None, None
    try:
        address = hub.hf_hub_url(repository, file, revision=revision)
        try:
            size = hub.get_hf_file_metadata(address).size
        except errors.HfHubHTTPError:
            raise
        except Exception as error:  # of the HTTP library that this version of the hub's is built on
            away = error  # no network: what is kept will do, and nothing is tried again and again
        _check(url, size or 0, limits)
        kept_alone = away is not None
        return Path(
            hub.hf_hub_download(repository, file, revision=revision, local_files_only=kept_alone)
        )
    except errors.LocalEntryNotFoundError as error:
        raise _away(url, away or error, "HF_HUB_OFFLINE") from None
    except (errors.HFValidationError, errors.EntryNotFoundError, OSError) as error:
        raise ModelFileError(url, _line(error), "a file on the hub that may be read") from None


def _web(url: str, limits: Limits) -> Path:
    address, _, fragment = url.partition("#")
    parts, pinned = urlsplit(address), _SHA256.fullmatch(fragment)
    if fragment and pinned is None:
        raise ArgumentError("source", repr(f"#{fragment}"), "#sha256= and 64 hexadecimal digits")
    if parts.scheme == "http" and not pinned and parts.hostname not in ("localhost", "127.0.0.1"):
        # Anybody on the way can change what comes.
        raise ArgumentError("source", repr(url), "https://..., or #sha256=... behind it")
    name = Path(unquote(parts.path)).name or "model.onnx"
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    kept = files.cache("models") / key / re.sub(r"[^\w.-]", "_", name)
    wanted = pinned[1].lower() if pinned else None
    if not kept.is_file() or wanted not in (None, digest(str(kept))):
        _download(url, address, kept, wanted, limits)
    return kept


def _download(url: str, address: str, kept: Path, wanted: str | None, limits: Limits) -> None:
    if os.environ.get("FASTGAN_OFFLINE", "0") not in ("", "0"):
        raise _away(url, "nothing kept of it", "FASTGAN_OFFLINE")
    try:
        import fsspec
        from aiohttp import ClientError, ClientTimeout
    except ImportError:
        raise _missing(url, "fsspec and aiohttp") from None
    waits = ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
    options = {"trust_env": True, "timeout": waits}
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        source = fsspec.filesystem("http", client_kwargs=options, skip_instance_cache=True)
        with source.open(address, "rb", block_size=0) as answer, files.whole(kept) as file:
            made, done = hashlib.sha256(), 0
            while part := answer.read(1 << 20):
                done += len(part)
                _check(url, done, limits)
                made.update(part)
                file.write(part)
            if wanted not in (None, made.hexdigest()):
                found = f"a file whose SHA-256 is {made.hexdigest()}"
                raise ModelFileError(url, found, "the one that it says")
    except FileNotFoundError as error:  # fsspec's, of whatever keeps it from a file
        raise _away(url, error.__cause__ or "no such file there", "FASTGAN_OFFLINE") from None
    except (ClientError, TimeoutError, OSError) as error:
        raise _away(url, error, "FASTGAN_OFFLINE") from None


def _check(url: str, size: int, limits: Limits) -> None:
    if size > limits.file_bytes:
        most = f"at most {size_text(limits.file_bytes)} (Limits.file_bytes)"
        raise LimitError(url, f"{size_text(size)} and more", most)


def _missing(url: str, packages: str) -> BackendError:
    return BackendError(url, f"no {packages}", "what fetches it", "pip install 'fastgan[hub]'")


def _away(url: str, why: object, switch: str) -> ModelFileError:
    needed = "the network, or a file that is kept from before"
    if os.environ.get(switch, "0") not in ("", "0"):
        needed += f"; {switch} is set"
    return ModelFileError(url, _line(why), needed)


def _line(why: object) -> str:
    text = " ".join(str(why).split())
    return text[:200] or type(why).__name__
