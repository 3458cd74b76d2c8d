"""timm's models for the coverage table: the two smallest of each of its modules, by parameters.

Where these are networks that timm made for its tests, the two smallest others follow. Each stands with the size of the
image it is given: the smallest that the architecture takes (96 at least), ``=SIZE`` where the builder is told so.
The list was made with timm 1.0.31 (its networks built on the meta device and counted) and is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision_operators import define
from zoo_models import randomise

LIST = """
beit: beit_base_patch16_224 224, beitv2_base_patch16_224 224
byoanet: halonet_h1 256, eca_botnext26ts_256 256
byobnet: test_byobnet 96, mobileone_s1 96, mobileone_s0 96
cait: cait_xxs24_224 224, cait_xxs24_384 =224
coat: coat_tiny 224, coat_lite_tiny 224
convit: convit_tiny 224, convit_small 224
convmixer: convmixer_768_32 96, convmixer_1024_20_ks9_p14 96
convnext: test_convnext 96, test_convnext3 96, convnext_zepto_rms 96, convnext_zepto_rms_ols 96
cpubone: cpubone_nano 96, cpubone_t0 96
crossvit: crossvit_tiny_240 96, crossvit_9_240 96
csatv2: csatv2 96, csatv2_21m 96
cspnet: cs3darknet_focus_s 96, cs3darknet_s 96
cspnext: cspnext_tiny 96, cspnext_s 96
davit: davit_tiny 96, davit_small 96
deepseek_vit: deepseek_vit_412m 224, deepseek_vit_412m_align 224
deit: deit_tiny_patch16_224 224, deit_tiny_distilled_patch16_224 224
densenet: densenet121 96, tv_densenet121 96
dla: dla46x_c 96, dla46_c 96
dpn: dpn48b 96, dpn68 96
edgenext: edgenext_xx_small 96, edgenext_x_small 96
efficientformer: efficientformer_l1 224, efficientformer_l3 224
efficientformer_v2: efficientformerv2_s0 224, efficientformerv2_s1 224
efficientnet: test_efficientnet 96, test_efficientnet_gn 96, mobilenetv2_035 96, mobilenetv2_050 96
efficientvim: efficientvim_m1 96, efficientvim_m1_dist 96
efficientvit_mit: efficientvit_b0 96, efficientvit_b1 96
efficientvit_msra: efficientvit_m0 224, efficientvit_m1 224
eva: vit_tiny_patch16_dinov3_qkvb 96, eva02_tiny_patch14_224 224
fasternet: fasternet_t0 96, fasternet_t1 96
fastvit: fastvit_t8 96, fastvit_t12 96
focalnet: focalnet_tiny_srf 96, focalnet_tiny_lrf 96
gcvit: gcvit_xxtiny 224, gcvit_xtiny 224
gemma4_vit: gemma4_vit_167m 96, gemma4_vit_167m_enc 96
ghostnet: ghostnet_050 96, ghostnetv3_050 96
hardcorenas: hardcorenas_b 96, hardcorenas_a 96
hgnet: hgnetv2_b0 96, hgnetv2_b1 96
hiera: hiera_tiny_224 224, hiera_small_abswin_256 256
hieradet_sam2: sam2_hiera_tiny 96, sam2_hiera_small 96
hrnet: hrnet_w18_small 96, hrnet_w18_small_v2 96
iformer: iformer_t 96, iformer_s 96
inception_next: inception_next_atto 96, inception_next_tiny 96
inception_resnet_v2: ens_adv_inception_resnet_v2 96, inception_resnet_v2 96
inception_v3: adv_inception_v3 96, gluon_inception_v3 96
inception_v4: inception_v4 96
lcnetv2: lcnetv2_small 96, lcnetv2_base 96
levit: levit_128s 224, levit_conv_128s 224
lowformer: lowformer_b0 96, lowformer_b1 96
mambaout: test_mambaout 96, mambaout_femto 96, mambaout_kobe 96
maxxvit: test_coatnet 160, test_maxvit 160, maxvit_pico_rw_256 256, maxvit_rmlp_pico_rw_256 256
metaformer: poolformerv2_s12 96, poolformer_s12 96
mlp_mixer: gmlp_ti16_224 224, gmixer_12_224 224
mobilenetv3: mobilenetv3_small_050 96, lcnet_035 96
mobilenetv5: mobilenetv5_base 96, mobilenetv5_300m 96
mobilevit: mobilevit_xxs 96, mobilevitv2_050 96
mvitv2: mvitv2_tiny 96, mvitv2_small 96
naflexvit: naflexvit_base_patch16_parfac_gap 96, naflexvit_base_patch16_gap 96
nasnet: nasnetalarge 96
nest: jx_nest_tiny 224, nest_tiny 224
nextvit: nextvit_small 96, nextvit_base 96
nfnet: test_nfnet 96, nf_regnet_b0 96, nf_regnet_b1 96
pit: pit_ti_224 224, pit_ti_distilled_224 224
pnasnet: pnasnet5large 96
pvt_v2: pvt_v2_b0 96, pvt_v2_b1 96
qwen3_vit: qwen3_vit_88m 96, qwen3_vit_88m_enc 96
rdnet: rdnet_tiny 96, rdnet_small 96
regnet: regnetx_002 96, regnety_002 96
repghost: repghostnet_050 96, repghostnet_058 96
repvit: repvit_m1 96, repvit_m0_9 96
res2net: res2next50 96, res2net50_14w_8s 96
resnest: resnest14d 96, resnest26d 96
resnet: test_resnet 96, resnet10t 96, resnet14t 96
resnetv2: resnetv2_18 96, resnetv2_18d 96
rexnet: rexnet_100 96, rexnetr_100 96
selecsls: selecsls42 96, selecsls60 96
senet: legacy_seresnet18 96, legacy_seresnext26_32x4d 96
sequencer: sequencer2d_s 96, sequencer2d_m 96
shvit: shvit_s1 96, shvit_s2 96
sknet: skresnet18 96, skresnet34 96
starnet: starnet_s050 96, starnet_s100 96
swiftformer: swiftformer_xs 96, swiftformer_s 96
swin_transformer: swin_tiny_patch4_window7_224 224, swin_s3_tiny_224 224
swin_transformer_v2: swinv2_tiny_window16_256 256, swinv2_tiny_window8_256 256
swin_transformer_v2_cr: swinv2_cr_tiny_224 224, swinv2_cr_tiny_384 =224
tiny_vit: tiny_vit_5m_224 96, tiny_vit_11m_224 96
tnt: tnt_s_legacy_patch16_224 224, tnt_s_patch16_224 224
tresnet: tresnet_m 96, tresnet_m_448 96
twins: twins_svt_small 96, twins_pcpvt_small 96
vgg: vgg11 96, vgg11_bn 96
visformer: visformer_tiny 224, visformer_small 224
vision_transformer: test_vit 96, test_vit2 96, vit_tiny_patch16_224 224, vit_tiny_patch16_384 =224
vision_transformer_hybrid: vit_tiny_r_s16_p8_224 224, vit_tiny_r_s16_p8_384 =224
vision_transformer_relpos: test_vit_relpos 160, vit_srelpos_small_patch16_224 224,
    vit_relpos_small_patch16_rpn_224 224
vision_transformer_sam: samvit_base_patch16_224 96, samvit_base_patch16 96
vitamin: vitamin_small_224 224, vitamin_base_224 224
volo: volo_d1_224 224, volo_d1_384 =224
vovnet: ese_vovnet19b_slim_dw 96, ese_vovnet19b_slim 96
xception: legacy_xception 96, xception 96
xception_aligned: xception41p 96, xception41 96
xcit: xcit_nano_12_p8_224 96, xcit_nano_12_p8_224_dist 96
"""

HEADLESS = frozenset(
    """
    deepseek_vit_412m deepseek_vit_412m_align vit_tiny_patch16_dinov3_qkvb eva02_tiny_patch14_224
    gemma4_vit_167m gemma4_vit_167m_enc sam2_hiera_tiny sam2_hiera_small
    mobilenetv5_300m qwen3_vit_88m qwen3_vit_88m_enc samvit_base_patch16
    """.split()
)
"""Feature extractors that timm builds without a classifier."""

define()


def modules() -> dict[str, list[str]]:
    """The models' names by timm's module."""
    return {module: list(sizes) for module, sizes in _sizes().items()}


def names() -> list[str]:
    """The models of the list."""
    return [name for sizes in _sizes().values() for name in sizes]


def has_head(name: str) -> bool:
    """Whether a classifier makes the outputs."""
    return name not in HEADLESS


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model with random weights, in evaluation mode, and one image of the size in the list."""
    import timm

    size = next((sizes[name] for sizes in _sizes().values() if name in sizes), "224")
    told = {"img_size": int(size[1:])} if size.startswith("=") else {}
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **told)
    randomise(model)
    edge = int(size.removeprefix("="))
    return model.eval(), torch.randn(1, 3, edge, edge)


def _sizes() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in LIST.replace(",\n", ", ").strip().splitlines():
        module, _, models = line.partition(":")
        found[module] = dict(entry.split() for entry in models.split(","))  # type: ignore[misc]
    return found
