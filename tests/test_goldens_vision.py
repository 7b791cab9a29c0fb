"""Image models against the goldens of their references: parameter counts and outputs, through `load_reference`."""

from __future__ import annotations

import pytest
from torch import Tensor

from anyformer import create_model
from anyformer.models.vision.lola_specvit import lola_specvit
from golden import Golden


def timm_isotropic(model, images: Tensor) -> dict[str, Tensor]:
    """timm's names: all final tokens (with class tokens) in a row, and logits."""
    return {"features": model.tokens(images).flatten(1, -2), "logits": model(images)}


def timm_map(model, images: Tensor) -> dict[str, Tensor]:
    """timm's names: the last map, and logits."""
    return {"features": model.features(images)[0], "logits": model(images)}


def timm_pyramid(model, images: Tensor) -> dict[str, Tensor]:
    """timm's names: the map of every stage, and logits."""
    return {f"stages.{i}": m for i, m in enumerate(model.features(images))} | {"logits": model(images)}


def timm_normed_pyramid(model, images: Tensor) -> dict[str, Tensor]:
    """timm's names: the map of every stage, the last one after the norm, and logits."""
    maps = [*model.features(images)[:-1], model.tokens(images).movedim(-1, 1)]
    return {f"stages.{i}": m for i, m in enumerate(maps)} | {"logits": model(images)}


def transformers_poolformer(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: the map of every stage, the last one twice."""
    maps = model.features(images)
    return {f"hidden_states.{i}": m for i, m in enumerate(maps)} | {"last_hidden_state": maps[-1]}


def transformers_convnext(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: the stem's map and every stage's, the last one twice, and the normed mean."""
    maps = [model.embed(images).movedim(-1, 1), *model.features(images)]
    found = {f"hidden_states.{i}": m for i, m in enumerate(maps)}
    return found | {"last_hidden_state": maps[-1], "pooler_output": model(images)}


def logits(model, images: Tensor) -> dict[str, Tensor]:
    return {"output": model(images)}


def row(model, images: Tensor) -> dict[str, Tensor]:
    """Logits of one image, without the batch."""
    return {"output": model(images)[0]}


def official_stages(model, images: Tensor) -> dict[str, Tensor]:
    """EMO's names: the map of every stage, counted from 1, and logits."""
    return {f"stage{i + 1}": m for i, m in enumerate(model.features(images))} | logits(model, images)


def transformers_swin(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: tokens after the embedding and every stage with its merging, all tokens, their mean."""
    names = ["embed", *(f"stages.{i}.downsample" for i in (1, 2, 3)), "stages.3", "norm"]
    pooled, found = model(images, taps=names)
    hidden = [found[name].flatten(1, -2) for name in names]
    states = {f"hidden_states.{i}": h for i, h in enumerate(hidden[:-1])}
    return states | {"last_hidden_state": hidden[-1], "pooler_output": pooled}


def transformers_tokens(model, images: Tensor) -> dict[str, Tensor]:
    return {"last_hidden_state": model.tokens(images)}


def transformers_cvt(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: the last map, and the class token, both before the norm."""
    return {"last_hidden_state": model.features(images)[-1], "cls_token_value": model.tokens(images)[:, :1]}


def only_logits(model, images: Tensor) -> dict[str, Tensor]:
    return {"logits": model(images)}


FOUR = {"num_classes": 4}

CASES = {  # golden: (name for create_model, options, outputs under the golden's names)
    "vit--vit_tiny_patch16_224--timm": ("timm:vit_tiny_patch16_224", {}, timm_isotropic),
    "deit--deit_tiny_patch16_224--timm": ("timm:deit_tiny_patch16_224", {}, timm_isotropic),
    "swin--swin_tiny_patch4_window7_224--timm": ("timm:swin_tiny_patch4_window7_224", {}, timm_pyramid),
    "swin--swin-tiny-patch4-window7-224--transformers": (
        "transformers:microsoft/swin-tiny-patch4-window7-224",
        {"num_classes": 0},
        transformers_swin,
    ),
    "swin_v2--swinv2-tiny-patch4-window8-256--transformers": (
        "transformers:microsoft/swinv2-tiny-patch4-window8-256",
        {"num_classes": 0},
        transformers_swin,
    ),
    "swin_v2--swinv2_cr_tiny_224--timm": ("timm:swinv2_cr_tiny_224", {}, timm_pyramid),
    "pvt--pvt_tiny--official": ("official:pvt_tiny", {}, logits),
    "pvt--pvt-tiny-224--transformers": ("transformers:Zetatech/pvt-tiny-224", {"num_classes": 0}, transformers_tokens),
    "cvt--cvt_13--official": ("official:cvt-13-224x224", {}, row),
    "cvt--cvt-13--transformers": (
        "transformers:microsoft/cvt-13",
        {"num_classes": 0, ".norm": None},
        transformers_cvt,
    ),
    "cswin--cswin_tiny_224--official": ("official:cswin_tiny_224", {}, logits),
    "coswin--coswin_cifar10--official": ("official:checkpoint_coswin_CIFAR10", {}, logits),
    "vsa--vitaev2_vsa_s--official": ("official:ViTAEv2_VSA_S", {}, logits),
    "video_swin_driver--swin3d_t--torchvision": ("torchvision:swin3d_t", {}, logits),
    "crossformer--crossformer_pp_small--official": ("official:crossformer_pp_small", {}, logits),
    "crossvit--crossvit_tiny_240--timm": (
        "timm:crossvit_tiny_240",
        {},
        lambda model, images: {"logits": model(images)},
    ),
    "crossvit--crossvit_tiny_224--official": ("official:crossvit_tiny_224", {}, logits),
    "tnt--tnt_s_legacy_patch16_224--timm": ("timm:tnt_s_legacy_patch16_224", {}, timm_isotropic),
    "gcvit--gcvit_xxtiny--timm": ("timm:gcvit_xxtiny", {}, timm_normed_pyramid),
    "gcvit--gc_vit_xxtiny--official": ("official:gc_vit_xxtiny", {}, logits),
    "rmt--rmt_t3--official": ("official:RMT_T3", {}, logits),
    "ppma--PPMAViT_T--official": ("official:PPMAViT_T", {}, logits),
    "favit--favit_b0--official": ("official:favit_b0", {}, logits),
    "resformer--resformer_tiny_patch16--official": ("official:resformer_tiny_patch16", {}, logits),
    "resformer--resformer_tiny_patch16_160--official": ("official:resformer_tiny_patch16", {}, logits),
    "smt--smt_t--official": ("official:smt_t", {}, logits),
    "inception_transformer--iformer_small--official": ("official:iformer_small", {}, logits),
    "ecoformer--ecoformer_pvt_v2_b0--official": ("official:pvtv2_b0_ecoformer", {}, logits),
    "hiera--hiera_tiny_224--timm": ("timm:hiera_tiny_224", {}, timm_pyramid),
    "dinat--dinat_mini--official": ("official:dinat_mini", {}, logits),
    "efficientformer--efficientformer_l1--timm": ("timm:efficientformer_l1", {}, timm_pyramid),
    "tiny_vit--tiny_vit_5m_224--timm": ("timm:tiny_vit_5m_224", {}, timm_pyramid),
    "sret--sret_lt_16_14--official": ("sret_tl_16_14", {}, logits),
    "sret--sret_s--official": ("official:SReT_S", {}, logits),
    "ecg_vit--vit-base-patch16-224--transformers": ("transformers:google/vit-base-patch16-224", FOUR, only_logits),
    "ecg_vit--swin-tiny-patch4-window7-224--transformers": (
        "transformers:microsoft/swin-tiny-patch4-window7-224",
        FOUR,
        only_logits,
    ),
    "ecg_vit--beit-base-patch16-224--transformers": ("transformers:microsoft/beit-base-patch16-224", FOUR, only_logits),
    "ecg_vit--beit_base_patch16_224--timm": ("timm:beit_base_patch16_224", {}, only_logits),
    "emo_v2--emo2_1m_k5_hybrid--official": ("official:EMO2_1M_k5_hybrid", {}, official_stages),
    "emo_v2--emo1_1m--official": ("official:EMO1_1M", {}, official_stages),
    "fcaformer--fcaformer_l1--official": ("official:fcaformer_l1", {}, logits),
    "compact_transformers--cvt_7_4_32--official": ("official:cvt_7_4_32", {}, logits),
    "metaformer--poolformer_s12--timm": ("timm:poolformer_s12", {}, timm_pyramid),
    "metaformer--poolformer_s12--transformers": (
        "transformers:sail/poolformer_s12",
        {"num_classes": 0, ".norm": None},
        transformers_poolformer,
    ),
    "metaformer_baselines--identityformer_s12--official": ("official:identityformer_s12", {}, logits),
    "metaformer_baselines--poolformerv2_s12--timm": ("timm:poolformerv2_s12", {}, timm_pyramid),
    "convnext--convnext_atto--timm": ("timm:convnext_atto", {}, timm_pyramid),
    "convnext--convnext-tiny-224--transformers": (
        "transformers:facebook/convnext-tiny-224",
        {"num_classes": 0},
        transformers_convnext,
    ),
    "mlp_mixer--mixer_s16_224--timm": ("timm:mixer_s16_224", {}, timm_isotropic),
    "gmlp--gmlp_ti16_224--timm": ("timm:gmlp_ti16_224", {}, timm_isotropic),
    "convmixer--convmixer_768_32--timm": ("timm:convmixer_768_32", {}, timm_map),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, outputs = CASES[name]
    Golden(name).hold(create_model(ours, **options), lambda model, inputs: outputs(model, *inputs.values()))


def test_golden_of_a_smaller_model():
    """The authors' code at less than its published width and depth, without what stands beside its dense layers."""
    model = create_model(lola_specvit(32, (1, 1, 2), (2, 4, 8)))
    model.family = "lola_specvit"
    Golden("lola_specvit--lola_specvit_dim32--official").hold(
        model, lambda model, inputs: logits(model, *inputs.values())
    )


def test_golden_with_fixed_positions():
    """The authors' factory divides scores as usual; for their weights, it is told to divide by the whole width."""
    model = create_model("official:t2t_vit_7", scoring="softmax")
    Golden("t2t_vit--t2t_vit_7--official").hold(
        model, lambda model, inputs: logits(model, *inputs.values()), kept={"pos_embed": model.position.table.clone()}
    )


def test_golden_with_parameters_that_the_reference_does_not_use():
    """Its global blocks hold a convolution each that they never call; the points of its KANs count as parameters."""
    model = create_model("official:MedViT_tiny")
    Golden("medvit_v2--medvit_v2_tiny--official").hold(
        model, lambda model, inputs: logits(model, *inputs.values()), idle=984_392
    )


def test_golden_with_tokens_that_are_sorted():
    """In double precision, as tokens whose significance differs by a rounding error otherwise change places."""
    Golden("sg_former--sgformer_s--official").hold(
        create_model("official:sgformer_s"),
        lambda model, inputs: {"output": model.double()(*(x.double() for x in inputs.values()))},
    )
