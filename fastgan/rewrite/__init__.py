"""The ordered rewrites: each a named set of rules, applied once, in this order."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule, RewriteRuleSet
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from fastgan.rewrite.fusion import epilogue, normal_form, unflatten

PASSES: tuple[tuple[str, tuple[RewriteRule, ...]], ...] = (
    (
        "fold batch norm",
        (
            fuse_batchnorm_into_conv_rule,
            fuse_batchnorm_into_conv_transpose_rule,
            fuse_batchnorm_into_gemm_rule,
        ),
    ),
    ("normal form of products", normal_form.RULES),
    ("bias into the product", epilogue.BIAS_RULES),
    ("rows to images", unflatten.UNFLATTEN_RULES),
    ("fold batch norm of images from rows", unflatten.BATCH_NORM_RULES),
    ("activation into the product", epilogue.ACTIVATION_RULES),
)


def rewrite(model: ir.Model) -> ir.Model:
    """Apply every pass to a specialised model, in place; returns it."""
    for _, rules in PASSES:
        RewriteRuleSet(rules).apply_to_model(model)
    return model
