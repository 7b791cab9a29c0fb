"""How the authors name PPMA's parameters and variants: as RMT's, and the decays."""

from __future__ import annotations

from anyformer.weights.mapping import table
from anyformer.weights.vision.rmt import OFFICIAL as RMT
from anyformer.weights.vision.rmt import OURS, THEIRS

DECAY = THEIRS + "retention.path_embed."
OFFICIAL = table(
    (DECAY + "dt_linear.weight", OURS + "mixer.decay.project"),
    (DECAY + "dt_bias", OURS + "mixer.decay.shift"),
    (DECAY + "A_log", OURS + "mixer.decay.log_rate"),
    parent=RMT,
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {"PPMAViT_T": "ppma_tiny", "PPMAViT_S": "ppma_small", "PPMAViT_B": "ppma_base"}}
