"""How the PaSST authors name its parameters and variants."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anyformer.weights.mapping import Rule, table
from anyformer.weights.vision.vit import OFFICIAL as VIT


def columns(table: Tensor) -> Tensor:
    """A table `(1, c, n, 1)` or `(1, c, 1, n)` as rows `(n, c)`."""
    return table.flatten(2)[0].t()


OFFICIAL = table(
    Rule("new_pos_embed", "position.front"),
    Rule("freq_new_pos_embed", "position.frequency", columns),
    Rule("time_new_pos_embed", "position.time", columns),
    ("head.0.{p}", "head.norm.{p}"),
    ("head.1.{p}", "head.linear.{p}"),
    # A head that was trained but is not on the way from the spectrogram to the logits; the extractor's module.
    ignore=("head_dist.{p}", "mel.{p}", "device_proxy"),
    prefixes=("net.",),
    parent=VIT,
)
SOURCES = {"official": OFFICIAL}
NAMES: dict[str, dict[str, Any]] = {
    "official": {
        "passt_s_swa_p16_128_ap476": "passt_s_p16",
        "passt_s_swa_p16_128_ap4761": "passt_s_p16",
        "passt_s_p16_128_ap472": "passt_s_p16",
        "passt_s_kd_p16_128_ap486": "passt_s_p16",
        "passt_l_kd_p16_128_ap47": "passt_l_p16",
        "passt_s_swa_p16_s12_128_ap473": "passt_s_p16_s12",
        "passt_s_p16_s12_128_ap470": "passt_s_p16_s12",
        "passt_s_swa_p16_s14_128_ap471": "passt_s_p16_s14",
        "passt_s_p16_s14_128_ap469": "passt_s_p16_s14",
        "passt_s_swa_p16_s16_128_ap473": "passt_s_p16_s16",
        "passt_s_p16_s16_128_ap468": "passt_s_p16_s16",
        "passt_s_swa_f128_stfthop100_p16_s10_ap473": "passt_s_stfthop100_p16",
        "passt_s_swa_f128_stfthop160_p16_s10_ap473": "passt_s_stfthop160_p16",
        "passt_s_f128_20sec_p16_s10_ap474": "passt_s_20sec_p16",
        "passt_s_f128_30sec_p16_s10_ap473": "passt_s_30sec_p16",
    }
}
