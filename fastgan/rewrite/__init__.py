"""The ordered rewrites: each a named set of rules, applied once, in this order."""

from __future__ import annotations

import functools

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import RewriteRule

from fastgan.rewrite.driver import Rules
from fastgan.rewrite.fusion import (
    activations,
    addressing,
    batch_norm,
    epilogue,
    normal_form,
    normalise,
    nothing,
    residual,
    scale,
    transposes,
    unflatten,
)

PASSES: tuple[tuple[str, tuple[RewriteRule, ...]], ...] = (
    ("transposes downwards", transposes.SINK_RULES),
    ("times one and plus zero", nothing.RULES),
    ("norms in one form", normalise.RULES),
    ("groups, scale and shift into the norm", normalise.AFFINE_RULES),
    ("activations by their names", activations.NAME_RULES),
    ("normal form of products", normal_form.RULES),
    ("constants into weight and bias", (*epilogue.BIAS_RULES, *scale.RULES)),
    ("rows to images", unflatten.RULES),
    ("batch norm into the weight", (*batch_norm.RULES, *scale.RULES)),
    ("pads and upsampling into the convolution", addressing.READ_RULES),
    ("sum into the epilogue", residual.RULES),
    ("activation before the concatenation", activations.CONCAT_RULES),
    ("relu of a skip connection", activations.SKIP_RULES),
    ("activation into the epilogue", epilogue.ACTIVATION_RULES),
    ("shuffle into the convolution", addressing.WRITE_RULES),
    ("activation behind a shuffle", epilogue.ACTIVATION_RULES),
    ("activated rows to images", unflatten.RULES),
    ("transpose of images into the rows", transposes.COLUMN_RULES),
)


def rewrite(model: ir.Model) -> ir.Model:
    """Apply every pass to a specialised model, in place; returns it."""
    for _, rules in PASSES:
        _prepared(rules).apply(model)
        _drop_identities(model.graph)
    RemoveUnusedNodesPass()(model)  # What a norm written step by step was made of.
    return model


_prepared = functools.cache(Rules)


def _drop_identities(graph: ir.Graph) -> None:
    """Let every reader of an Identity read its input; one that names an output stays."""
    for node in graph:
        source = node.inputs[0] if node.op_type == "Identity" and not node.domain else None
        if source is not None and not node.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            graph.remove(node, safe=True)
