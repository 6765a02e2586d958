"""Holds `InferenceService`s to the types of KServe's and of Kubernetes' clients: a line of each.

    python -m tests.serve.kserve_types SERVICE.yaml...

A process of its own, since KServe's messages and tritonclient's have the same names.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import yaml

MODELS = ("kserve.models", "kubernetes.client")


def held(value: Any, kind: str, where: str) -> None:
    """Hold a part of a document to a type of KServe's or of Kubernetes' clients, strictly."""
    if listed := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(value, list), where
        for index, each in enumerate(value):
            held(each, listed[1], f"{where}[{index}]")
    elif mapped := re.fullmatch(r"[Dd]ict[([]str, (.+)[])]", kind):
        assert isinstance(value, dict), where
        for name, each in value.items():
            held(each, mapped[1], f"{where}.{name}")
    elif kind in ("str", "int", "bool"):
        assert type(value).__name__ == kind, f"{where}: {value!r} is no {kind}"
    elif kind in ("object", "ResourceQuantity", "IntOrString"):
        assert isinstance(value, (str, int)), where
    else:
        models = [importlib.import_module(name) for name in MODELS]
        of = next((getattr(m, kind) for m in models if hasattr(m, kind)), None)
        assert of is not None, f"{where}: a type {kind}, which is unknown"
        types = {of.attribute_map[name]: type_ for name, type_ in of.openapi_types.items()}
        assert isinstance(value, dict), where
        for name, each in value.items():
            assert name in types, f"{where}: {kind} has no {name}"
            held(each, types[name], f"{where}.{name}")
        of(**{key: value[name] for key, name in of.attribute_map.items() if name in value})


if __name__ == "__main__":
    for path in sys.argv[1:]:
        document = yaml.safe_load(Path(path).read_text())
        try:
            held(document, "V1beta1InferenceService", Path(path).name)
            print("right")
        except AssertionError as error:
            print(error)
