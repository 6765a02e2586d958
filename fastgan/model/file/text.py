"""Whether every text of a file is text: names, types, domains, comments, metadata.

ONNX's schema (proto2) lets any bytes stand where it says `string`, and protobuf hands those that
are not UTF-8 out as `bytes`, which the libraries that read the message do not expect. One walk
over all of it, by the schema's own list of fields, so that none is forgotten.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastgan.errors import ModelFileError
from fastgan.model.file.source import Source


class _Fields(NamedTuple):
    """A message type's fields that are text or hold some, by name."""

    single: tuple[str, ...]
    repeated: tuple[str, ...]
    message: tuple[str, ...]
    messages: tuple[str, ...]


_FIELDS: dict[str, _Fields] = {}


def check_text(message: Any, source: Source) -> None:
    """Raise where a string field anywhere in `message` is not UTF-8.

    Raises:
        ModelFileError: naming the field.
    """
    todo = [message]
    while todo:
        found = todo.pop()
        fields = _fields(found.DESCRIPTOR)
        for name in fields.single:
            text = getattr(found, name)
            if isinstance(text, bytes):
                raise _error(source, found, name, text)
        for name in fields.repeated:
            for text in getattr(found, name):
                if isinstance(text, bytes):
                    raise _error(source, found, name, text)
        for name in fields.message:
            if found.HasField(name):
                todo.append(getattr(found, name))
        for name in fields.messages:
            todo.extend(getattr(found, name))


def _fields(descriptor: Any) -> _Fields:
    known = _FIELDS.get(descriptor.full_name)
    if known is None:
        text = [f for f in descriptor.fields if f.type == f.TYPE_STRING]
        inner = [f for f in descriptor.fields if f.message_type is not None]
        known = _FIELDS[descriptor.full_name] = _Fields(
            tuple(f.name for f in text if not _repeated(f)),
            tuple(f.name for f in text if _repeated(f)),
            tuple(f.name for f in inner if not _repeated(f)),
            tuple(f.name for f in inner if _repeated(f)),
        )
    return known


def _repeated(field: Any) -> bool:
    if hasattr(field, "is_repeated"):  # from protobuf 6.31 on, where `label` warns
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


def _error(source: Source, message: Any, field: str, text: bytes) -> ModelFileError:
    where = f"{message.DESCRIPTOR.name}.{field}"
    return source.error(f"{text[:40]!r}", "text in UTF-8", at=where)
