"""Restoration and super-resolution, as spandrel and spandrel_extra_arches have them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.trial.network import Network


def _of(
    path: str,
    inputs: Any = ((3, 32, 32),),
    extra: bool = False,
    given: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Network:
    package = "spandrel_extra_arches" if extra else "spandrel"
    return Network(f"{package}.architectures.{path}", options, inputs, given=given)


_TINY = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 2), "window_size": 8, "img_size": 32}
_SIXTEEN = ((3, 16, 16),)

# fmt: off
NETWORKS = {
    "Compact": _of("Compact:Compact", num_feat=16, num_conv=3),
    "SwiftSRGAN": _of("SwiftSRGAN:SwiftSRGAN", num_channels=16, num_blocks=3),
    "HAT": _of("HAT:HAT", **_TINY, upscale=2, squeeze_factor=4),
    "GRL": _of("GRL:GRL", img_size=32, embed_dim=24, upscale=2, upsampler="pixelshuffle", depths=[2,
        2], num_heads_window=[2, 2], num_heads_stripe=[2, 2], mlp_ratio=2.0,
        anchor_window_down_factor=2, stripe_size=[8, 8]),
    "GRL-local": _of("GRL:GRL", img_size=32, embed_dim=24, upscale=4,
        upsampler="pixelshuffledirect", depths=[2], num_heads_window=[2], num_heads_stripe=[2],
        stripe_size=[8, None], stripe_groups=[None, 4], stripe_shift=True, out_proj_type="conv2d",
        local_connection=True, anchor_window_down_factor=2),
    "Swin2SR": _of("Swin2SR:Swin2SR", **_TINY, upscale=2, upsampler="pixelshuffle"),
    "Swin2SR-nearest": _of("Swin2SR:Swin2SR", **_TINY, upscale=4, upsampler="nearest+conv"),
    "SwinIR": _of("SwinIR:SwinIR", **_TINY, upscale=2, upsampler="pixelshuffle"),
    "SwinIR-light": _of("SwinIR:SwinIR", **_TINY, upscale=2, upsampler="pixelshuffledirect"),
    "SwinIR-real": _of("SwinIR:SwinIR", **_TINY, upscale=4, upsampler="nearest+conv",
        resi_connection="3conv"),
    "SwinIR-denoise": _of("SwinIR:SwinIR", **_TINY),
    "GFPGAN": _of("GFPGAN:GFPGAN", given={"randomize_noise": False}, out_size=32, num_style_feat=32,
        channel_multiplier=1, num_mlp=2, narrow=0.0625),
    "RestoreFormer": _of("RestoreFormer:RestoreFormer", n_embed=32, embed_dim=32, ch=32, ch_mult=(1,
        2, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=32, z_channels=32),
    "LaMa": _of("LaMa:LaMa", ((3, 32, 32), (1, 32, 32)), in_nc=4),
    "OmniSR": _of("OmniSR:OmniSR", num_feat=16, up_scale=2),
    "SCUNet": _of("SCUNet:SCUNet", ((3, 64, 64),), dim=64, config=[1, 2, 1, 1, 1, 1, 1]),
    "FBCNN": _of("FBCNN:FBCNN", nc=[8, 16, 16, 512], nb=1),
    "Uformer": _of("Uformer:Uformer", ((3, 128, 128),), img_size=128, embed_dim=8, depths=[1] * 9,
        num_heads=[1, 2, 2, 2, 2, 2, 2, 2, 2], modulator=True),
    "RGT": _of("RGT:RGT", img_size=32, embed_dim=24, depth=[2, 2], num_heads=[2, 2]),
    "DAT": _of("DAT:DAT", img_size=32, embed_dim=24, split_size=[8, 16], depth=[2, 2], num_heads=[2,
        2]),
    "DAT-light": _of("DAT:DAT", img_size=32, embed_dim=24, split_size=[4, 8], depth=[3],
        num_heads=[2], upsampler="pixelshuffledirect", resi_connection="3conv"),
    "CRAFT": _of("CRAFT:CRAFT", embed_dim=24, depths=[2], num_heads=[2], upscale=2),
    "KBNet-l": _of("KBNet:KBNet_l", dim=48, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1),
    "KBNet-s": _of("KBNet:KBNet_s", width=16, middle_blk_num=1, enc_blk_nums=[1, 1],
        dec_blk_nums=[1, 1]),
    "DITN": _of("DITN:DITN", dim=24, ITL_blocks=2, SAL_blocks=2, upscale=2),
    "MMRealSR": _of("MMRealSR:MMRealSR", ((3, 64, 64),), num_in_ch=3, num_out_ch=3, num_feat=16,
        num_block=1, num_grow_ch=8, num_feats=[16, 16, 16, 16], num_blocks=[1, 1, 1, 1]),
    "SPAN": _of("SPAN:SPAN", num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2),
    "RealCUGAN-2x": _of("RealCUGAN:UpCunet2x", ((3, 40, 40),)),
    "RealCUGAN-2x-fast": _of("RealCUGAN:UpCunet2x_fast", ((3, 40, 40),)),
    "RealCUGAN-3x": _of("RealCUGAN:UpCunet3x", ((3, 36, 36),)),
    "RealCUGAN-4x": _of("RealCUGAN:UpCunet4x", ((3, 36, 36),)),
    "RealCUGAN-pro": _of("RealCUGAN:UpCunet2x", ((3, 40, 40),), pro=True),
    "SAFMN": _of("SAFMN:SAFMN", dim=16, n_blocks=2),
    "SAFMN-BCIE": _of("SAFMNBCIE:SAFMNBCIE", dim=16, n_blocks=2, num_layers=2),
    "DCTLSA": _of("DCTLSA:DCTLSA", nf=20, upscale=2),
    "FFTformer": _of("FFTformer:FFTformer", dim=16, num_blocks=[1, 1, 1], num_refinement_blocks=1),
    "NAFNet": _of("NAFNet:NAFNet", width=8, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "ATD": _of("ATD:ATD", **_TINY, upscale=2, upsampler="pixelshuffledirect", category_size=64,
        num_tokens=16, reducted_dim=4),
    "ATD-classical": _of("ATD:ATD", **_TINY, upscale=2, upsampler="pixelshuffle", category_size=64,
        num_tokens=16, reducted_dim=4),
    "MixDehazeNet": _of("MixDehazeNet:MixDehazeNet", ((3, 64, 64),), embed_dims=[8, 16, 32, 16, 8]),
    "DRUNet": _of("DRUNet:DRUNet", ((4, 32, 32),), in_nc=4, out_nc=3, nc=[8, 16, 16, 32], nb=1),
    "DnCNN": _of("DnCNN:DnCNN", ((1, 32, 32),), nc=16, nb=4),
    "FDnCNN": _of("DnCNN:DnCNN", ((2, 32, 32),), in_nc=2, nc=16, nb=4, mode="FDnCNN", act_mode="R"),
    "IPT": _of("IPT:IPT", ((3, 24, 24),), patch_size=24, n_feats=8, scale=[2], num_heads=2,
        num_layers=1),
    "DRCT": _of("DRCT:DRCT", **_TINY, upscale=2, upsampler="pixelshuffle", gc=8),
    "ESRGAN": _of("ESRGAN:ESRGAN", _SIXTEEN, num_filters=16, num_blocks=2),
    "ESRGAN-plus": _of("ESRGAN:ESRGAN", _SIXTEEN, num_filters=16, num_blocks=2, plus=True),
    "ESRGAN-shuffle": _of("ESRGAN:ESRGAN", _SIXTEEN, in_nc=12, num_filters=16, num_blocks=2,
        scale=4, shuffle_factor=2),
    "PLKSR": _of("PLKSR:PLKSR", dim=16, n_blocks=2, upscaling_factor=2),
    "PLKSR-sparse": _of("PLKSR:PLKSR", dim=16, n_blocks=2, ccm_type="DCCM", lk_type="SparsePLK"),
    "PLKSR-rect": _of("PLKSR:PLKSR", dim=16, n_blocks=2, ccm_type="ICCM", lk_type="RectSparsePLK"),
    "RealPLKSR": _of("PLKSR:RealPLKSR", dim=16, n_blocks=2, upscaling_factor=2),
    "RealPLKSR-dysample": _of("PLKSR:RealPLKSR", dim=16, n_blocks=2, upscaling_factor=2,
        dysample=True, layer_norm=True),
    "RetinexFormer": _of("RetinexFormer:RetinexFormer", n_feat=8, stage=2),
    "HVI-CIDNet": _of("HVICIDNet:HVICIDNet", channels=[8, 8, 16, 32], heads=[1, 2, 4, 8],
        norm=True),
    "MoSR": _of("MoSR:MoSR", n_block=2, dim=16, upscale=2),
    "MoSR-dysample": _of("MoSR:MoSR", n_block=2, dim=16, upscale=2, upsampler="dys"),
    "MoESR": _of("MoESR:MoESR", scale=2, dim=16, n_blocks=2, n_block=2, upsample_dim=16),
    "MoESR-dysample": _of("MoESR:MoESR", scale=2, dim=16, n_blocks=1, n_block=2, upsample_dim=16,
        upsampler="dysample"),
    "RCAN": _of("RCAN:RCAN", scale=2, n_resgroups=2, n_resblocks=2, n_feats=16, reduction=4),
    "RCAN-unshuffle": _of("RCAN:RCAN", scale=2, n_resgroups=1, n_resblocks=2, n_feats=16,
        reduction=4, unshuffle_mod=True),
    "FDAT": _of("FDAT:FDAT", scale=2, embed_dim=24, num_groups=1, depth_per_group=2, num_heads=2,
        mid_dim=16),
    "SRFormer": _of("SRFormer:SRFormer", extra=True, **_TINY, upscale=2, upsampler="pixelshuffle"),
    "DDColor": _of("DDColor:DDColor", ((3, 64, 64),), extra=True, encoder_name="convnext-t",
        input_size=(64, 64), num_queries=8, dec_layers=3),
    "M3SNet": _of("M3SNet:M3SNet", extra=True, width=8, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "Restormer": _of("Restormer:Restormer", extra=True, dim=16, num_blocks=[1, 1, 1, 1],
        num_refinement_blocks=1),
    "MPRNet": _of("MPRNet:MPRNet", extra=True, n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4,
        num_cab=1),
    "MIRNet2": _of("MIRNet2:MIRNet2", extra=True, n_feat=16, n_MRB=1),
    "FeMaSR": _of("FeMaSR:FeMaSR", ((3, 64, 64),), extra=True, codebook_params=[[32, 16, 32]],
        gt_resolution=256, LQ_stage=True, scale_factor=4),
}
# fmt: on
