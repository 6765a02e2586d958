"""Ranges from the arithmetic with which a graph begins and ends, line by line."""

import onnx.parser
import onnx_ir as ir
import pytest

from fastgan.model.described import of as described_by

UNIT, SYMMETRIC, BYTES = (0, 1), (-1, 1), (0, 255)
CONSTANTS = """
float zero = {0}, float half = {0.5}, float one = {1}, float two = {2}, float top = {255},
float middle = {127.5},
float[3, 1, 1] mean = {123.68, 116.779, 103.939}, float[1, 3, 1, 1] third = {0.45, 0.44, 0.41},
float[1, 3, 1, 1] imagenet = {0.485, 0.456, 0.406},
float[1, 3, 1, 1] spread = {0.229, 0.224, 0.225},
float[3] gamma = {1, 1, 1}, float[3] beta = {0, 0, 0}, float[3] seen = {0.45, 0.44, 0.41},
float[3] bytes = {110, 112, 120}, float[3] varied = {0.06, 0.05, 0.07},
float[3] bytes_varied = {4000, 4100, 4200}, float mnist = {0.1307}, float mnist_spread = {0.3081},
float[1] numbers = {0.5}"""


def described(body: str, takes: str = "float[n, 3, h, w] x", makes: str = "float[n, 3, h, w] y"):
    head = f'<ir_version: 9, opset_import: ["" : 18]> g ({takes}) => ({makes})'
    text = f"{head} <{CONSTANTS}> {{{body}}}"
    return described_by(ir.from_proto(onnx.parser.parse_model(text)))


@pytest.mark.parametrize(
    ("first", "wanted"),
    [
        ("a = Div(x, top)", BYTES),
        ("t = Mul(x, two) a = Sub(t, one)", UNIT),
        ("t = Add(x, one) a = Div(t, two)", SYMMETRIC),
        ("t = Mul(x, half) a = Add(half, t)", SYMMETRIC),
        ("a = Sub(x, half)", UNIT),
        ("t = Div(x, middle) a = Sub(t, one)", BYTES),
        ("t = Sub(x, middle) a = Div(t, middle)", BYTES),
        ("t = Neg(x) a = Add(t, half)", UNIT),
        ("a = Sub(x, mean)", BYTES),
        ("t = Mul(x, top) a = Sub(t, mean)", UNIT),
        ("t = Sub(x, imagenet) a = Div(t, spread)", UNIT),
        ("s = Div(x, top) t = Sub(s, imagenet) a = Div(t, spread)", BYTES),
        ("r = Mul(x, half) s = Add(r, half) t = Sub(s, imagenet) a = Div(t, spread)", SYMMETRIC),
        ("t = Sub(x, mnist) a = Div(t, mnist_spread)", UNIT),
        ("a = Mul(x, top)", UNIT),
        ("a = Clip(x, zero, one)", UNIT),
        ("a = Clip(x, zero, top)", BYTES),
        ("a = BatchNormalization(x, gamma, beta, seen, varied)", UNIT),
        ("a = BatchNormalization(x, gamma, beta, bytes, bytes_varied)", BYTES),
        ("t = Transpose<perm = [0, 1, 3, 2]>(x) a = Div(t, top)", BYTES),
        ("i = Identity(top) a = Div(x, i)", BYTES),
    ],
)
def test_an_input_by_the_first_layers(first, wanted):
    found = described(f"{first} b = Softplus(a) y = Softplus(b)").image
    assert found.range == pytest.approx(wanted)
    assert found.basis.confidence != "thin"


@pytest.mark.parametrize(
    "first",
    [
        "a = Mul(x, two)",
        "a = Sub(one, x)",
        "a = Div(one, x)",
        "a = Div(x, zero)",
        "a = BatchNormalization(x, gamma, beta, beta, gamma)",
    ],
)
def test_first_layers_that_tell_nothing(first):
    found = described(f"{first} b = Softplus(a) y = Softplus(b)").image
    assert found.range == UNIT  # the usual for networks of images
    assert found.basis.confidence == "thin"


@pytest.mark.parametrize(
    ("last", "wanted"),
    [
        ("t = Tanh(x) s = Add(t, one) y = Mul(s, middle)", BYTES),
        ("t = Sigmoid(x) y = Mul(t, top)", BYTES),
        ("t = Sigmoid(x) s = Mul(t, top) y = Clip(s, zero, top)", BYTES),
        ("t = Softplus(x) s = Min(t, one) y = Max(s, zero)", UNIT),
        ("t = Softplus(x) s = Clip(t, zero, one) r = Mul(s, top) y = Round(r)", BYTES),
        ("t = Softplus(x) y = Add(t, mean)", BYTES),
        ("t = Softplus(x) y = Add(t, third)", UNIT),
        ("t = Softplus(x) y = Mul(t, top)", BYTES),
        ("t = Softplus(x) s = Mul(t, two) y = Sub(s, one)", SYMMETRIC),
        ("t = Softplus(x) y = Div(t, top)", UNIT),
        ("t = Softplus(x) s = Mul(t, spread) y = Add(s, imagenet)", UNIT),
    ],
)
def test_an_output_by_the_last_layers(last, wanted):
    assert described(last).outputs[0].range == pytest.approx(wanted)


def test_a_network_of_0_to_1_with_bytes_at_last():
    assert described("t = Softplus(x) y = Mul(t, top)").image.range == UNIT


@pytest.mark.parametrize(
    ("body", "taken", "made"),
    [
        ("t = Softplus(x) y = Add(t, x)", UNIT, UNIT),
        ("t = Softplus(x) s = Add(x, t) y = Clip(s, zero, top)", BYTES, BYTES),
        ("a = Div(x, top) t = Softplus(a) s = Add(t, a) y = Mul(s, top)", BYTES, BYTES),
        ("a = Div(x, top) t = Softplus(a) y = Sub(a, t)", BYTES, UNIT),
        ("t = Softplus(x) s = Sub(x, t) r = Mul(s, two) y = Sub(r, one)", UNIT, SYMMETRIC),
        ("t = Tanh(x) y = Where(c, t, x)", SYMMETRIC, SYMMETRIC),
    ],
)
def test_a_residual_ties_both_ends(body, taken, made):
    takes = "float[n, 3, h, w] x" + (", bool[n, 1, h, w] c" if "c," in body else "")
    found = described(body, takes)
    assert (found.image.range, found.outputs[0].range) == (taken, made)


@pytest.mark.parametrize(
    ("use", "wanted"),
    [
        ("m = Div(mask, top)", BYTES),
        ("c = Greater(mask, middle) m = Cast<to = 1>(c)", BYTES),
        ("c = Greater(mask, half) m = Cast<to = 1>(c)", UNIT),
        ("m = Sub(one, mask)", UNIT),
    ],
)
def test_a_mask_by_the_first_layers(use, wanted):
    takes = "float[n, 3, h, w] x, float[n, 1, h, w] mask"
    found = described(f"{use} t = Mul(x, m) y = Tanh(t)", takes)
    assert found.first("mask").range == wanted
    assert found.image.range == SYMMETRIC


def test_bytes_by_type_and_by_name():
    found = described("t = Cast<to = 1>(x) y = Sigmoid(t)", "uint8[n, 3, h, w] x")
    assert found.image.range == BYTES
    assert found.image.basis.confidence == "certain"
    found = described("y = Sigmoid(image_0_255)", "float[n, 3, h, w] image_0_255")
    assert found.image.range == BYTES


def test_an_image_of_which_no_image_is_made():
    found = described("y = Flatten(x)", makes="float[n, k] y")
    assert found.image.range == SYMMETRIC
    assert found.image.basis.confidence == "thin"


def test_two_images_share_what_one_of_them_tells():
    found = described(
        "a = Div(x, top) t = Add(a, s) y = Softplus(t)", "float[n, 3, h, w] x, float[n, 3, h, w] s"
    )
    assert [port.range for port in found.inputs] == [BYTES, BYTES]


def test_a_hostile_chain_ends():
    """Thousands of nodes that branch at each step are not followed to their end."""
    body = " ".join(f"a{i + 1} = Add(a{i}, zero) b{i + 1} = Mul(a{i}, one)" for i in range(3000))
    found = described(f"a0 = Identity(x) {body} y = Softplus(a3000)")
    assert found.image.range == UNIT


@pytest.mark.parametrize("value", ["{0}", "{1e38}", "{nan}", "{inf}"])
def test_extreme_constants_tell_nothing(value):
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    g (float[n, 3, h, w] x) => (float[n, 3, h, w] y) <float c = {value}>
    {{ a = Div(x, c) b = Div(a, c) d = Div(b, c) t = Softplus(d) s = Mul(t, c) y = Mul(s, c) }}"""
    try:
        model = onnx.parser.parse_model(text)
    except onnx.parser.ParseError:
        pytest.skip("the parser has no such number")
    found = described_by(ir.from_proto(model))
    assert found.outputs[0].range[0] < found.outputs[0].range[1]
