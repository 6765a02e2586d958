"""Autoencoders, vocoders, generators, denoisers and dense prediction, of their packages."""

from __future__ import annotations

import importlib
import sys
import types
from types import MappingProxyType
from typing import Any
from unittest import mock

import torch
from torch import nn

from tests.trial.network import Network

_HERE = "tests.trial.generative_networks"
_BLOCKS = {"block_out_channels": (16, 32), "norm_num_groups": 8}
_TWO = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}


def transformer(name: str, part: str = "", **config: Any) -> nn.Module:
    """A model of transformers by its class, or a part of it, from what its config is told."""
    import transformers

    made = getattr(transformers, name)
    module = made(made.config_class(**config))
    return module.get_submodule(part)


def on_no_gpu(where: str, **options: Any) -> nn.Module:
    """A network of a package that asserts a GPU, and imports a tracker of experiments, at once."""
    sys.modules.setdefault("aim", types.ModuleType("aim"))
    with mock.patch.object(torch.cuda, "is_available", return_value=True):
        module = importlib.import_module(where)
    if hasattr(module, "Noise"):
        module.Noise.forward = lambda self, x, noise=None: x  # no seed gives it again
    return module.Generator(**options)


class Styled(nn.Module):
    """stylegan2_pytorch's generator, of a latent and noise, as its trainer calls it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.synthesis = on_no_gpu("stylegan2_pytorch.stylegan2_pytorch", **options)
        self.mapping = sys.modules["stylegan2_pytorch.stylegan2_pytorch"].StyleVectorizer(
            options["latent_dim"], 2
        )

    def forward(self, z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """[n, latent], [n, size, size, 1] to [n, 3, size, size]."""
        w = self.mapping(z)
        return self.synthesis(w[:, None].expand(-1, self.synthesis.num_layers, -1), noise)


def _diffusers(
    name: str,
    *inputs: Any,
    method: str = "forward",
    given: Any = MappingProxyType({}),
    **options: Any,
) -> Network:
    return Network(f"diffusers:{name}", options, inputs or ((3, 32, 32),), method, given)


def _transformer(name: str, *inputs: Any, seed: int = 0, **options: Any) -> Network:
    options["name"] = name
    return Network(
        f"{_HERE}:transformer",
        options,
        inputs or ((3, 64, 64),),
        seed=seed,
        behind="transformers",
    )


def _monai(name: str, *inputs: Any, method: str = "forward", **options: Any) -> Network:
    return Network(f"monai.networks.nets:{name}", options, inputs or ((1, 32, 32),), method)


def _segmentation(name: str, size: int = 64, **options: Any) -> Network:
    options = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 3, **options}
    return Network(f"segmentation_models_pytorch:{name}", options, ((3, size, size),))


def _compressai(name: str, *sizes: int, **options: Any) -> Network:
    return Network(
        f"compressai.models:{name}", {"N": sizes[0], "M": sizes[1], **options}, ((3, 64, 64),)
    )


_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_MONAI2 = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
_DOWN3, _UP3 = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
_TIME = ("class", 1000)

# fmt: off
NETWORKS = {
    # Autoencoders of diffusers.
    "AutoencoderKL": _diffusers("AutoencoderKL", **_TWO, **_BLOCKS),
    "AutoencoderKL-decoder": _diffusers("AutoencoderKL", (4, 8, 8), method="decode", **_TWO,
        **_BLOCKS),
    "AutoencoderKL-encoder": _diffusers("AutoencoderKL", method="encode", **_TWO, **_BLOCKS),
    "AsymmetricAutoencoderKL": _diffusers("AsymmetricAutoencoderKL", **_TWO, norm_num_groups=8,
        down_block_out_channels=(16, 32), up_block_out_channels=(16, 32)),
    "AutoencoderTiny": _diffusers("AutoencoderTiny", encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)),
    "AutoencoderTiny-decoder": _diffusers("AutoencoderTiny", (4, 16, 16), method="decode",
        encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)),
    "VQModel": _diffusers("VQModel", **_TWO, **_BLOCKS, num_vq_embeddings=16),
    "MoVQ": _diffusers("VQModel", (4, 16, 16), method="decode", given={"force_not_quantize": True},
        norm_type="spatial", down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        num_vq_embeddings=16, up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4, vq_embed_dim=4, block_out_channels=(32, 32)),
    "AutoencoderDC": _diffusers("AutoencoderDC", latent_channels=8, attention_head_dim=8,
        encoder_block_out_channels=(16, 32), encoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_layers_per_block=(1, 1), decoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_layers_per_block=(1, 1), decoder_block_out_channels=(16, 32),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,))),
    "AutoencoderKLTemporalDecoder": _diffusers("AutoencoderKLTemporalDecoder", (4, 8, 8),
        method="decode", given={"num_frames": 1}, down_block_types=("DownEncoderBlock2D",) * 2,
        block_out_channels=(32, 32)),
    "AutoencoderKLFlux2": _diffusers("AutoencoderKLFlux2", **_TWO, **_BLOCKS, layers_per_block=1,
        latent_channels=4),
    "AutoencoderKLHunyuanImage": _diffusers("AutoencoderKLHunyuanImage", in_channels=3,
        out_channels=3, latent_channels=8, block_out_channels=(32, 64), layers_per_block=1,
        spatial_compression_ratio=2, sample_size=32),
    "AutoencoderKLKVAE": _diffusers("AutoencoderKLKVAE", channels=32, num_enc_blocks=1,
        num_dec_blocks=1, z_channels=4, ch_mult=(1, 2)),
    "AutoencoderKLQwenImage": _diffusers("AutoencoderKLQwenImage", (4, 1, 8, 8), method="decode",
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False]),
    "AutoencoderKLWan": _diffusers("AutoencoderKLWan", (4, 2, 8, 8), method="decode", base_dim=8,
        z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True]),
    "AutoencoderKLCogVideoX": _diffusers("AutoencoderKLCogVideoX", (4, 2, 8, 8), method="decode",
        latent_channels=4, layers_per_block=1, down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2, temporal_compression_ratio=2, sample_height=32,
        sample_width=32, **_BLOCKS),
    "AutoencoderKLMochi": _diffusers("AutoencoderKLMochi", (12, 2, 4, 4), method="decode",
        decoder_block_out_channels=(32, 32, 32, 32), encoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1), add_attention_block=(False,) * 5),
    "AutoencoderKLLTXVideo": _diffusers("AutoencoderKLLTXVideo", (8, 2, 4, 4), method="decode",
        latent_channels=8, block_out_channels=(16, 16),
        down_block_types=("LTXVideoDownBlock3D",) * 2, decoder_block_out_channels=(16, 16),
        layers_per_block=(1, 1, 1), decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, False), decoder_spatio_temporal_scaling=(True, False),
        decoder_inject_noise=(False,) * 3),
    "AutoencoderKLMagvit": _diffusers("AutoencoderKLMagvit", (4, 1, 8, 8), method="decode",
        latent_channels=4, layers_per_block=1, down_block_types=["SpatialDownBlock3D",
        "SpatialTemporalDownBlock3D"], up_block_types=["SpatialUpBlock3D",
        "SpatialTemporalUpBlock3D"], **_BLOCKS),
    "AutoencoderOobleck": _diffusers("AutoencoderOobleck", (8, 8), method="decode",
        encoder_hidden_size=8, decoder_channels=8, downsampling_ratios=[2, 4], channel_multiples=[1,
        2], decoder_input_channels=8),
    "MMAudioVocoder": _diffusers("MMAudioVocoder", (16, 8), num_mels=16,
        upsample_initial_channel=32, upsample_rates=(4, 2), upsample_kernel_sizes=(8, 4)),
    # Denoisers.
    "UNet2DModel": _diffusers("UNet2DModel", (3, 16, 16), _TIME, **_BLOCKS, sample_size=16,
        layers_per_block=1, down_block_types=_DOWN3, up_block_types=_UP3),
    "UNet2DModel-shift": _diffusers("UNet2DModel", (3, 16, 16), _TIME, **_BLOCKS, sample_size=16,
        layers_per_block=1, down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        resnet_time_scale_shift="scale_shift", up_block_types=("AttnUpBlock2D",
        "ResnetUpsampleBlock2D")),
    "UNet2DConditionModel": _diffusers("UNet2DConditionModel", (4, 16, 16), _TIME, (5, 16),
        **_BLOCKS, sample_size=16, layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",
        "DownBlock2D"), cross_attention_dim=16, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4),
    "DiT": _diffusers("DiTTransformer2DModel", (4, 8, 8), _TIME, ("class", 10),
        num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8,
        num_embeds_ada_norm=10),
    "Lucidrains-Unet": Network("denoising_diffusion_pytorch:Unet", {"dim": 16, "dim_mults": (1, 2),
        "flash_attn": False}, ((3, 16, 16), _TIME)),
    "Lucidrains-KarrasUnet": Network("denoising_diffusion_pytorch:KarrasUnet", {"image_size": 16,
        "dim": 16, "dim_max": 32, "num_downsamples": 2, "num_blocks_per_stage": 1, "channels": 3,
        "attn_res": (8,), "fourier_dim": 8}, ((3, 16, 16), ())),
    "Lucidrains-Unet1D": Network("denoising_diffusion_pytorch:Unet1D", {"dim": 16, "dim_mults": (1,
        2), "channels": 3}, ((3, 32), _TIME)),
    "Monai-DiffusionModelUNet": _monai("DiffusionModelUNet", (1, 16, 16), _TIME, **_MONAI2,
        num_res_blocks=1, channels=(16, 32), attention_levels=(False, True), norm_num_groups=8,
        num_head_channels=8),
    # Generators.
    "lightweight_gan": Network(f"{_HERE}:on_no_gpu", {"where": "lightweight_gan.lightweight_gan",
        "image_size": 64, "latent_dim": 32, "fmap_max": 32, "attn_res_layers": [32]}, ((32,),),
        behind="lightweight_gan"),
    "lightweight_gan-fcanet": Network(f"{_HERE}:on_no_gpu",
        {"where": "lightweight_gan.lightweight_gan", "image_size": 64, "latent_dim": 32,
        "fmap_max": 32, "freq_chan_attn": True}, ((32,),), behind="lightweight_gan"),
    "stylegan2_pytorch": Network(f"{_HERE}:Styled", {"image_size": 32, "latent_dim": 32,
        "network_capacity": 4, "fmap_max": 32}, ((32,), (32, 32, 1)), behind="stylegan2_pytorch"),
    "stylegan2_pytorch-attention": Network(f"{_HERE}:Styled", {"image_size": 32, "latent_dim": 32,
        "network_capacity": 4, "fmap_max": 32, "attn_layers": [2], "no_const": True}, ((32,), (32,
        32, 1)), behind="stylegan2_pytorch"),
    "ganzoo-dcgan": Network("ganzoo.nn_modules.dcgan_nets:DCGAN_Generator", {"num_z_units": 16,
        "num_conv_filters": 8, "output_image_dim": 32, "output_image_channels": 3}, ((16, 1, 1),)),
    "Monai-Generator": _monai("Generator", (16,), latent_shape=(16,), start_shape=(8, 4, 4),
        channels=(8, 8, 1), strides=(2, 2, 1)),
    "Monai-SPADENet": _monai("SPADENet", (1, 32, 32), (2, 32, 32), spatial_dims=2, in_channels=2,
        out_channels=1, label_nc=1, input_shape=[32, 32], channels=[8, 16],
        spade_intermediate_channels=8, is_vae=False),
    # Vocoders and codecs of sound.
    "SpeechT5HifiGan": _transformer("SpeechT5HifiGan", (8, 16), model_in_dim=16,
        upsample_initial_channel=32, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4]),
    "FastSpeech2ConformerHifiGan": _transformer("FastSpeech2ConformerHifiGan", (8, 16),
        model_in_dim=16, upsample_initial_channel=32, upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4]),
    "UnivNet": _transformer("UnivNetModel", (8, 16), (8, 8), model_in_channels=8,
        model_hidden_channels=8, num_mel_bins=16, kernel_predictor_hidden_channels=8,
        resblock_stride_sizes=[4, 2, 2]),
    "VitsHifiGan": _transformer("VitsModel", (16, 8), part="decoder", flow_size=16, hidden_size=16,
        ffn_dim=16, upsample_initial_channel=32, upsample_rates=[4, 2], upsample_kernel_sizes=[8,
        4], speaker_embedding_size=0, num_hidden_layers=1, spectrogram_bins=17,
        wavenet_dilation_rate=1),
    "Encodec-decoder": _transformer("EncodecModel", (16, 8), part="decoder", hidden_size=16,
        num_filters=4, upsampling_ratios=[4, 2]),
    "Encodec-encoder": _transformer("EncodecModel", (1, 64), part="encoder", hidden_size=16,
        num_filters=4, upsampling_ratios=[4, 2]),
    "Dac-decoder": _transformer("DacModel", (32, 8), part="decoder", hidden_size=32,
        encoder_hidden_size=8, decoder_hidden_size=32, downsampling_ratios=[2, 2],
        upsampling_ratios=[2, 2], n_codebooks=2, codebook_size=16, codebook_dim=4),
    # Dense prediction of transformers.
    "Swin2SR-transformers": _transformer("Swin2SRForImageSuperResolution", (3, 32, 32),
        image_size=32, embed_dim=16, depths=[2], num_heads=[2], window_size=8),
    "DPT": _transformer("DPTForDepthEstimation", seed=1, image_size=64, **_VIT, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 16, 16], fusion_hidden_size=16,
        is_hybrid=False),
    "GLPN": _transformer("GLPNForDepthEstimation", hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1,
        1], decoder_hidden_size=8, num_attention_heads=[1, 2, 2, 2]),
    "Segformer": _transformer("SegformerForSemanticSegmentation", hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1], decoder_hidden_size=16, num_attention_heads=[1, 2, 2, 2],
        num_labels=4),
    "MobileViT": _transformer("MobileViTForSemanticSegmentation", hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 16, 32, 32], image_size=64, num_labels=4,
        aspp_out_channels=16),
    "BEiT": _transformer("BeitForSemanticSegmentation", image_size=64, **_VIT, patch_size=16,
        out_indices=[1, 2, 3, 4], num_labels=4, use_relative_position_bias=True),
    "ViT-MIM": _transformer("ViTForMaskedImageModeling", image_size=64, **_VIT, patch_size=16,
        encoder_stride=16),
    "DepthAnything": _transformer("DepthAnythingForDepthEstimation", (3, 56, 56),
        backbone_config={"model_type": "dinov2", "image_size": 56, "hidden_size": 32,
        "num_hidden_layers": 4, "num_attention_heads": 2, "out_features": ["stage1", "stage2",
        "stage3", "stage4"], "reshape_hidden_states": False, "apply_layernorm": True},
        neck_hidden_sizes=[8, 16, 16, 16], fusion_hidden_size=16, head_hidden_size=8,
        reassemble_hidden_size=32, depth_estimation_type="metric", max_depth=10),
    # Dense prediction of segmentation_models_pytorch.
    "smp-Unet": _segmentation("Unet"),
    "smp-Unet-scse": _segmentation("Unet", decoder_attention_type="scse",
        encoder_name="mobilenet_v2"),
    "smp-UnetPlusPlus": _segmentation("UnetPlusPlus"),
    "smp-MAnet": _segmentation("MAnet"),
    "smp-Linknet": _segmentation("Linknet"),
    "smp-FPN": _segmentation("FPN", encoder_name="efficientnet-b0"),
    "smp-PSPNet": _segmentation("PSPNet"),
    "smp-DeepLabV3Plus": _segmentation("DeepLabV3Plus"),
    "smp-PAN": _segmentation("PAN", 128),
    "smp-UPerNet": _segmentation("UPerNet"),
    "smp-Segformer": _segmentation("Segformer", encoder_name="mit_b0"),
    # Medical imaging, in two and three dimensions.
    "Monai-AutoEncoder": _monai("AutoEncoder", **_MONAI2, channels=(8, 16), strides=(2, 2)),
    "Monai-AutoencoderKL": _monai("AutoencoderKL", (3, 8, 8), method="decode", **_MONAI2,
        num_res_blocks=(1, 1), channels=(16, 32), attention_levels=(False, True),
        norm_num_groups=8),
    "Monai-AutoencoderKL-3d": _monai("AutoencoderKL", (3, 4, 4, 4), method="decode", spatial_dims=3,
        num_res_blocks=(1, 1), channels=(16, 16), attention_levels=(False, False),
        norm_num_groups=8),
    "Monai-VQVAE": _monai("VQVAE", **_MONAI2, channels=(8, 8), num_res_layers=1,
        num_res_channels=(8, 8), num_embeddings=16, embedding_dim=8, downsample_parameters=((2, 4,
        1, 1),) * 2, upsample_parameters=((2, 4, 1, 1, 0),) * 2),
    "Monai-UNet": _monai("UNet", **_MONAI2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2),
    "Monai-BasicUNet": _monai("BasicUNet", **_MONAI2, features=(8, 8, 16, 16, 16, 8)),
    "Monai-AttentionUnet": _monai("AttentionUnet", **_MONAI2, channels=(8, 16), strides=(2, 2)),
    "Monai-DynUNet": _monai("DynUNet", **_MONAI2, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2], filters=[8, 8, 16]),
    "Monai-SegResNet": _monai("SegResNet", (1, 16, 16, 16), blocks_down=(1, 1), blocks_up=(1,)),
    "Monai-UNETR": _monai("UNETR", in_channels=1, out_channels=1, img_size=32, feature_size=8,
        hidden_size=16, mlp_dim=32, num_heads=2, spatial_dims=2),
    "Monai-SwinUNETR": _monai("SwinUNETR", (1, 64, 64), in_channels=1, out_channels=1, depths=(1, 1,
        1, 1), num_heads=(1, 2, 2, 2), feature_size=12, spatial_dims=2, window_size=4),
    "Monai-VNet": _monai("VNet", (1, 32, 32), spatial_dims=2, dropout_prob_down=0.5),
    "Monai-HighResNet": _monai("HighResNet", (1, 16, 16), spatial_dims=2),
    "Monai-RegUNet": _monai("RegUNet", spatial_dims=2, in_channels=1, num_channel_initial=8,
        depth=2, out_channels=2),
    "Monai-ViTAutoEnc": _monai("ViTAutoEnc", in_channels=1, img_size=(32, 32), patch_size=(4, 4),
        hidden_size=16, mlp_dim=32, num_layers=2, num_heads=2, spatial_dims=2),
    # Learned compression.
    "CompressAI-FactorizedPrior": _compressai("FactorizedPrior", 16, 24),
    "CompressAI-ScaleHyperprior": _compressai("ScaleHyperprior", 16, 24),
    "CompressAI-MeanScaleHyperprior": _compressai("MeanScaleHyperprior", 16, 24),
    "CompressAI-JointAutoregressive": _compressai("JointAutoregressiveHierarchicalPriors", 16, 24),
    "CompressAI-Cheng2020": Network("compressai.models:Cheng2020Anchor", {"N": 16}, ((3, 64, 64),)),
    "CompressAI-Cheng2020Attention": Network("compressai.models:Cheng2020Attention", {"N": 16}, ((3,
        64, 64),)),
    # Others.
    "kornia-RRDBNet": Network("kornia.models:RRDBNet", {"num_in_ch": 3, "num_out_ch": 3,
        "num_feat": 16, "num_block": 1, "num_grow_ch": 8}, ((3, 16, 16),)),
    "kornia-DexiNed": Network("kornia.models.dexined:DexiNed", {"pretrained": False}, ((3, 32,
        32),)),
    "kornia-DISK": Network("kornia.feature:DISK", {}, ((3, 32, 32),),
        "heatmap_and_dense_descriptors"),
    "torchvision-DeepLabV3": Network("torchvision.models.segmentation:deeplabv3_mobilenet_v3_large",
        {"weights": None, "weights_backbone": None, "num_classes": 3}, ((3, 64, 64),)),
    "torchvision-LRASPP": Network("torchvision.models.segmentation:lraspp_mobilenet_v3_large",
        {"weights": None, "weights_backbone": None, "num_classes": 3}, ((3, 64, 64),)),
    "timm-ConvNeXt": Network("timm:create_model", {"model_name": "convnext_atto", "num_classes": 8},
        ((3, 64, 64),)),
    "timm-Swin": Network("timm:create_model", {"model_name": "swin_tiny_patch4_window7_224",
        "img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (2,
        2, 2, 2), "num_classes": 8}, ((3, 64, 64),)),
    "timm-MaxViT": Network("timm:create_model", {"model_name": "maxvit_rmlp_pico_rw_256",
        "img_size": 64, "num_classes": 8}, ((3, 64, 64),)),
    "timm-ViT-features": Network("timm:create_model", {"model_name": "vit_tiny_patch16_224",
        "img_size": 64, "depth": 2, "features_only": True, "out_indices": (0, 1)}, ((3, 64, 64),)),
}
# fmt: on
