"""`fastgan.export`: what it writes, what it refuses, and what it leaves alone."""

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.exporting import export
from fastgan.model.described import of as described_by
from fastgan.model.signature import Input, Output

EXPORTERS = ("dynamo", "torchscript")


class Generator(nn.Module):
    """A small DCGAN-like generator; `batch` is what it reshapes the batch to."""

    def __init__(self, batch: int = -1) -> None:
        super().__init__()
        self.batch = batch
        self.dense = nn.Linear(16, 64)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.ConvTranspose2d(4, 8, 4, 2, 1, bias=False)
        self.last = nn.ConvTranspose2d(8, 3, 4, 2, 1)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, z):
        x = self.dense(z).view(self.batch, 4, 4, 4)
        return torch.tanh(self.last(torch.relu(self.norm(self.first(x)))))


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.generator = nn.Embedding(5, 16), Generator()

    def forward(self, z, label):
        return self.generator(z * self.embedding(label)) / 2 + 0.5


class Inpainting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image, mask):
        return self.layer(torch.cat([image * mask, mask], 1))


def run(file, **feeds) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})[0]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_round_trip(tmp_path, exporter):
    module, file = Generator(), tmp_path / "g.onnx"
    stated = export(module, file, latent=16, exporter=exporter)
    assert stated.inputs == (Input("latent", "latent", ("batch", 16), distribution="normal"),)
    assert stated.outputs == (Output("output", "image", ("batch", 3, 16, 16)),)
    assert described_by(ir.load(file)) == stated
    latents = torch.randn(5, 16)
    needed = module.eval()(latents).detach().numpy()
    np.testing.assert_allclose(run(file, latent=latents), needed, atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_labels_and_their_names(tmp_path, exporter):
    module, file = Conditional().eval(), tmp_path / "g.onnx"
    names = ["cat", "dog", "eel", "fox", "gnu"]
    export(module, file, latent=16, labels=5, class_names=names, exporter=exporter)
    found = described_by(ir.load(file))
    assert found.class_names == tuple(names)
    assert found.label == Input("label", "label", ("batch",), "int64", classes=5)
    assert found.outputs[0].range == (0, 1)
    latents, labels = torch.randn(4, 16), torch.tensor([4, 0, 3, 3])
    needed = module(latents, labels).detach().numpy()
    np.testing.assert_allclose(run(file, latent=latents, label=labels), needed, atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_image_and_mask_of_any_size(tmp_path, exporter):
    module, file = Inpainting().eval(), tmp_path / "g.onnx"
    shapes = {"image": (3, "height", "width"), "mask": (1, "height", "width")}
    export(module, file, **shapes, range=(0, 1), exporter=exporter)
    found = described_by(ir.load(file))
    assert [(i.kind, i.shape[1:], i.range) for i in found.inputs] == [
        ("image", (3, "height", "width"), (0, 1)),
        ("mask", (1, "height", "width"), (0, 1)),
    ]
    image, mask = torch.rand(2, 3, 40, 24), torch.ones(2, 1, 40, 24)
    needed = module(image, mask).detach().numpy()
    np.testing.assert_allclose(run(file, image=image, mask=mask), needed, atol=1e-5)


def test_inputs_of_any_kind(tmp_path):
    class Synthesis(Generator):
        def forward(self, w, noise):
            return super().forward(w.mean(1)) + noise

    w = Input("w", "latent", ("n", 3, 16), distribution="hypersphere")
    noise = Input("noise", "noise", ("n", 1, 16, 16))
    found = export(Synthesis(), tmp_path / "g.onnx", inputs=[w, noise], range=(-1, 1))
    assert described_by(ir.load(tmp_path / "g.onnx")).latent == w == found.latent
    assert described_by(ir.load(tmp_path / "g.onnx")).first("noise").distribution == "normal"


def test_half_precision(tmp_path):
    found = export(
        Inpainting().half(), tmp_path / "g.onnx", image=(3, 8, 8), mask=(1, 8, 8), range=(0, 1)
    )
    assert {port.dtype for port in (*found.inputs, *found.outputs)} == {"float16"}


def test_batch_norm_is_folded_unless_told_not_to(tmp_path):
    for optimize, there in ((True, False), (False, True)):
        export(Generator(), tmp_path / "g.onnx", latent=16, optimize=optimize)
        ops = [node.op_type for node in ir.load(tmp_path / "g.onnx").graph]
        assert any(op.startswith("BatchNorm") for op in ops) is there


def test_one_file_that_says_nothing_of_the_machine(tmp_path):
    export(Generator(), tmp_path / "g.onnx", latent=16)
    assert [file.name for file in tmp_path.iterdir()] == ["g.onnx"]
    model = onnx.load(tmp_path / "g.onnx")
    assert [p.key for p in model.metadata_props] == ["fastgan.signature"]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b".py" not in model.SerializeToString()


def test_the_module_and_the_random_numbers_are_left_as_they_were(tmp_path):
    module = Generator().train()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    export(module, tmp_path / "g.onnx", latent=16)
    assert torch.equal(torch.randn(3), expected)
    assert [m.training for m in (module, module.dense, module.norm)] == [True, True, False]
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_frozen_batch_names_its_node_and_leaves_the_file_alone(tmp_path, exporter):
    file = tmp_path / "g.onnx"
    file.write_bytes(b"what was there")
    module = Generator(batch=2).train()
    with pytest.raises(UnsupportedError, match=r"node '.+': found a Reshape to \[2, 4, 4, 4\]"):
        export(module, file, latent=16, exporter=exporter)
    assert file.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [file]
    assert module.training


class Widened(nn.Module):
    """A learned start, widened to the batch it was traced with: no Reshape shows that."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.style = nn.Parameter(torch.randn(1, 3, 8, 8)), nn.Linear(16, 3)

    def forward(self, z):
        return torch.tanh(self.start.expand(2, 3, 8, 8) * self.style(z)[..., None, None])


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_batch_frozen_elsewhere_is_found_by_running_it(tmp_path, exporter):
    with pytest.raises(UnsupportedError):
        export(Widened(), tmp_path / "g.onnx", latent=16, exporter=exporter)
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_from_the_module_is_refused(tmp_path):
    class Traced(Generator):
        def forward(self, z):
            # The branch is taken once, while tracing; with other latents the module differs.
            return super().forward(z) * (1 if z.shape[0] == 2 else 3)

    with pytest.raises(UnsupportedError, match="batch 1: found a largest difference"):
        export(Traced(), tmp_path / "g.onnx", latent=16, exporter="torchscript")
    export(Traced(), tmp_path / "g.onnx", latent=16, exporter="torchscript", verify=False)


def test_random_numbers_in_the_graph_are_not_compared(tmp_path):
    class Noisy(Generator):
        def forward(self, z):
            images = super().forward(z)
            return torch.tanh(images + torch.randn_like(images))

    export(Noisy(), tmp_path / "g.onnx", latent=16)
    ops = [node.op_type for node in ir.load(tmp_path / "g.onnx").graph]
    assert "RandomNormalLike" in ops


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_module_that_cannot_be_exported(tmp_path, exporter):
    class Broken(nn.Module):
        def forward(self, z):
            raise RuntimeError("no such layer")

    class Two(Generator):
        def forward(self, z):
            images = super().forward(z)
            return images, images

    with pytest.raises(UnsupportedError, match="no such layer"):
        export(Broken(), tmp_path / "g.onnx", latent=16, exporter=exporter)
    with pytest.raises(UnsupportedError, match="a result of type tuple"):
        export(Two(), tmp_path / "g.onnx", latent=16, exporter=exporter)


@pytest.mark.parametrize("was_on", [False, True])
def test_what_fails_prints_no_graph(tmp_path, capfd, was_on):
    class Pools(nn.Module):
        def forward(self, x):  # to a size that TorchScript's exporter does not know
            return nn.functional.adaptive_avg_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2))

    given = {"image": (3, "height", "width"), "range": (0, 1), "exporter": "torchscript"}
    before = torch._C._jit_is_onnx_log_enabled()
    torch._C._jit_set_onnx_log_enabled(was_on)
    try:
        with pytest.raises(UnsupportedError):
            export(Pools(), tmp_path / "m.onnx", **given)
        assert torch._C._jit_is_onnx_log_enabled() == was_on
    finally:
        torch._C._jit_set_onnx_log_enabled(before)
    assert capfd.readouterr().out == ""


def test_a_latent_of_the_wrong_size(tmp_path):
    with pytest.raises(UnsupportedError, match=r"Generator given latent \(2, 17\)"):
        export(Generator(), tmp_path / "g.onnx", latent=17)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "no input"),
        ({"latent": 16, "inputs": [Input("z", "latent", ("n", 16))]}, "one of the two"),
        ({"inputs": [Input("z", "latent", (1, 16))]}, "open batch"),
        ({"latent": 16, "range": (1, -1)}, "range"),
        ({"latent": 16, "range": (0.0, float("nan"))}, "range"),
        ({"latent": 16, "distribution": "gaussian"}, "distribution"),
        ({"latent": 16, "exporter": "keras"}, "exporter"),
    ],
)
def test_contradictory_arguments(tmp_path, arguments, named):
    with pytest.raises(ArgumentError, match=named):
        export(Generator(), tmp_path / "g.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_range_that_nothing_tells_is_asked_for(tmp_path):
    with pytest.raises(ArgumentError, match="range=\\(lowest, highest\\)"):
        export(Inpainting(), tmp_path / "g.onnx", image=(3, 8, 8), mask=(1, 8, 8))


def test_class_names_that_do_not_match(tmp_path):
    with pytest.raises(ArgumentError, match="class_names"):
        export(Conditional(), tmp_path / "g.onnx", latent=16, labels=5, class_names=["a"])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ArgumentError, match="nowhere"):
        export(Generator(), tmp_path / "nowhere" / "g.onnx", latent=16)


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = "{'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime'}"
    code = f"import sys, fastgan.exporting; print({heavy} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert printed.strip() == "set()"


def test_the_function_is_not_hidden_by_its_module():
    import fastgan

    assert fastgan.export is export
