"""Restoration networks of the package spandrel (pip install spandrel einops safetensors), small.

Their constructors are the package's own; weights are random. Sizes are what keeps a call within
some milliseconds, so that what is timed is a network's many small steps.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.networks.weights import build

try:
    # torchvision's own operators come for one build of PyTorch; its Python code is enough here,
    # but asks for them as it is imported.
    for _name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
except RuntimeError:  # they are there
    pass


@dataclass(frozen=True)
class Architecture:
    """A network of spandrel's.

    Attributes:
        name: for tables.
        where: module and class within `spandrel.architectures`.
        arguments: of its constructor.
        shape: of an image.
        exporter: PyTorch's, as `fastgan.export` takes it.
    """

    name: str
    where: str
    arguments: dict[str, Any]
    shape: tuple[int, int, int] = (3, 32, 32)
    exporter: str = "torchscript"

    def make(self) -> nn.Module:
        """The module in fp32 on the CPU; the same weights every time."""
        module, name = self.where.rsplit(".", 1)
        cls = getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)
        made: nn.Module = build(lambda: _Image(cls(**self.arguments)), 1).eval()
        return made


class _Image(nn.Module):
    """The image alone of what a network makes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        made = self.network(x)
        return made[0] if isinstance(made, tuple) else made


ARCHITECTURES = (
    Architecture(
        "atd",
        "ATD.__arch.atd_arch.ATD",
        {
            "embed_dim": 24,
            "depths": (2,),
            "num_heads": (2,),
            "window_size": 8,
            "category_size": 64,
            "num_tokens": 16,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        },
        exporter="dynamo",
    ),
    Architecture(
        "compact", "Compact.__arch.SRVGG.SRVGGNetCompact", {"num_feat": 24, "num_conv": 8}
    ),
    Architecture(
        "compact-relu",
        "Compact.__arch.SRVGG.SRVGGNetCompact",
        {"num_feat": 32, "num_conv": 4, "act_type": "relu", "upscale": 2},
    ),
    Architecture(
        "compact-wide",
        "Compact.__arch.SRVGG.SRVGGNetCompact",
        {"num_feat": 64, "num_conv": 6, "upscale": 2},
    ),
    Architecture(
        "craft",
        "CRAFT.__arch.CRAFT.CRAFT",
        {"embed_dim": 48, "depths": [2], "num_heads": [2], "upscale": 2},
    ),
    Architecture(
        "dat",
        "DAT.__arch.DAT.DAT",
        {"img_size": 32, "embed_dim": 48, "split_size": [2, 4], "depth": [2], "num_heads": [2]},
    ),
    Architecture("dctlsa", "DCTLSA.__arch.dctlsa.DCTLSA", {"nf": 20, "num_head": 5}),
    Architecture(
        "ditn",
        "DITN.__arch.DITN_Real.DITN_Real",
        {"dim": 24, "ITL_blocks": 1, "SAL_blocks": 1},
        exporter="dynamo",
    ),
    Architecture(
        "drct",
        "DRCT.__arch.drct_arch.DRCT",
        {
            "img_size": 32,
            "embed_dim": 24,
            "depths": (2, 2),
            "num_heads": (2, 2),
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffle",
            "gc": 8,
        },
    ),
    Architecture(
        "drunet",
        "DRUNet.__arch.network_unet.DRUNet",
        {"in_nc": 3, "out_nc": 3, "nc": [8, 16, 32, 64], "nb": 2},
    ),
    Architecture(
        "dncnn", "DnCNN.__arch.network_dncnn.DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 24, "nb": 8}
    ),
    Architecture(
        "dncnn-wide",
        "DnCNN.__arch.network_dncnn.DnCNN",
        {"in_nc": 3, "out_nc": 3, "nc": 64, "nb": 6, "act_mode": "R"},
    ),
    Architecture("esrgan", "ESRGAN.__arch.RRDB.RRDBNet", {"num_filters": 16, "num_blocks": 3}),
    Architecture(
        "esrgan-x2", "ESRGAN.__arch.RRDB.RRDBNet", {"num_filters": 24, "num_blocks": 2, "scale": 2}
    ),
    Architecture(
        "esrgan-shuffled",
        "ESRGAN.__arch.RRDB.RRDBNet",
        {"in_nc": 12, "num_filters": 24, "num_blocks": 2, "scale": 4, "shuffle_factor": 2},
    ),
    Architecture(
        "esrgan-plus",
        "ESRGAN.__arch.RRDB.RRDBNet",
        {"num_filters": 16, "num_blocks": 2, "plus": True},
    ),
    Architecture(
        "fdat",
        "FDAT.__arch.fdat.FDAT",
        {"embed_dim": 24, "num_groups": 1, "depth_per_group": 2, "num_heads": 2, "scale": 2},
    ),
    Architecture(
        "grl",
        "GRL.__arch.grl.GRL",
        {
            "img_size": 32,
            "embed_dim": 16,
            "depths": [2],
            "num_heads_window": [2],
            "num_heads_stripe": [2],
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    Architecture(
        "hat",
        "HAT.__arch.HAT.HAT",
        {
            "img_size": 32,
            "embed_dim": 24,
            "depths": (2,),
            "num_heads": (2,),
            "window_size": 8,
            "squeeze_factor": 4,
            "upscale": 2,
            "num_feat": 16,
        },
    ),
    Architecture(
        "cidnet",
        "HVICIDNet.__arch.cidnet.CIDNet",
        {"channels": [8, 8, 16, 32], "heads": [1, 2, 4, 8]},
    ),
    Architecture(
        "kbnet-s",
        "KBNet.__arch.kbnet_s.KBNet_s",
        {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    ),
    Architecture(
        "mmrealsr",
        "MMRealSR.__arch.mmrealsr_arch.MMRRDBNet_test",
        {
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 16,
            "num_block": 2,
            "num_grow_ch": 8,
            "num_feats": [16, 16, 32, 32],
            "num_blocks": [1, 1, 1, 1],
        },
    ),
    Architecture(
        "moesr",
        "MoESR.__arch.MoESR.MoESR",
        {"dim": 24, "n_blocks": 2, "n_block": 2, "upsample_dim": 16},
    ),
    Architecture("mosr", "MoSR.__arch.mosr_arch.MoSR", {"n_block": 4, "dim": 24}),
    Architecture(
        "nafnet",
        "NAFNet.__arch.NAFNet_arch.NAFNet",
        {"width": 8, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    ),
    Architecture(
        "nafnet-wide",
        "NAFNet.__arch.NAFNet_arch.NAFNet",
        {"width": 32, "enc_blk_nums": [1, 1, 1], "dec_blk_nums": [1, 1, 1]},
    ),
    Architecture("omnisr", "OmniSR.__arch.OmniSR.OmniSR", {"num_feat": 24}),
    Architecture("plksr", "PLKSR.__arch.PLKSR.PLKSR", {"dim": 24, "n_blocks": 4}),
    Architecture("realplksr", "PLKSR.__arch.RealPLKSR.RealPLKSR", {"dim": 32, "n_blocks": 4}),
    Architecture(
        "realplksr-layer-norm",
        "PLKSR.__arch.RealPLKSR.RealPLKSR",
        {"dim": 32, "n_blocks": 3, "layer_norm": True},
    ),
    Architecture(
        "rcan",
        "RCAN.__arch.rcan_arch.RCAN",
        {"n_resgroups": 2, "n_resblocks": 3, "n_feats": 24, "reduction": 8},
    ),
    Architecture(
        "rcan-x2",
        "RCAN.__arch.rcan_arch.RCAN",
        {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 48},
    ),
    Architecture(
        "rgt",
        "RGT.__arch.rgt.RGT",
        {"img_size": 32, "embed_dim": 48, "depth": [2], "num_heads": [2]},
    ),
    Architecture("real-cugan-x2", "RealCUGAN.__arch.upcunet_v3.UpCunet2x", {}),
    Architecture("real-cugan-x3", "RealCUGAN.__arch.upcunet_v3.UpCunet3x", {}),
    Architecture(
        "retinexformer",
        "RetinexFormer.__arch.retinexformer_arch.RetinexFormer",
        {"n_feat": 16, "stage": 1},
    ),
    Architecture(
        "safmn", "SAFMN.__arch.safmn.SAFMN", {"dim": 24, "n_blocks": 4}, exporter="dynamo"
    ),
    Architecture(
        "safmn-wide",
        "SAFMN.__arch.safmn.SAFMN",
        {"dim": 48, "n_blocks": 2, "upscaling_factor": 2},
        exporter="dynamo",
    ),
    Architecture(
        "safmn-bcie",
        "SAFMNBCIE.__arch.safmn_bcie.SAFMN_BCIE",
        {"dim": 24, "n_blocks": 2, "num_layers": 2},
        exporter="dynamo",
    ),
    Architecture(
        "span", "SPAN.__arch.span.SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 24}
    ),
    Architecture(
        "span-wide",
        "SPAN.__arch.span.SPAN",
        {"num_in_ch": 3, "num_out_ch": 3, "upscale": 2, "norm": False},
    ),
    Architecture(
        "seemore",
        "SeemoRe.__arch.seemore_arch.SeemoRe",
        {"num_layers": 2, "embedding_dim": 32, "num_experts": 2},
    ),
    Architecture(
        "swift-srgan",
        "SwiftSRGAN.__arch.SwiftSRGAN.Generator",
        {"num_channels": 24, "num_blocks": 4},
    ),
    Architecture(
        "swin2sr",
        "Swin2SR.__arch.Swin2SR.Swin2SR",
        {
            "img_size": 32,
            "embed_dim": 24,
            "depths": [2],
            "num_heads": [2],
            "window_size": 8,
            "upsampler": "pixelshuffle",
        },
    ),
    Architecture(
        "swinir",
        "SwinIR.__arch.SwinIR.SwinIR",
        {
            "img_size": 32,
            "embed_dim": 24,
            "depths": [2],
            "num_heads": [2],
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    Architecture(
        "swinir-light",
        "SwinIR.__arch.SwinIR.SwinIR",
        {
            "img_size": 32,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 8,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        },
    ),
    Architecture(
        "uformer",
        "Uformer.__arch.Uformer.Uformer",
        {
            "img_size": 32,
            "embed_dim": 8,
            "depths": [1] * 9,
            "win_size": 4,
            "num_heads": [1, 1, 2, 2, 2, 2, 2, 1, 1],
        },
    ),
)
