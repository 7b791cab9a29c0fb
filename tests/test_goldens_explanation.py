"""B-cos norms against the golden of their reference."""

from __future__ import annotations

import torch
from torch import nn

from anyformer import load_reference
from anyformer.core.build import build
from anyformer.core.spec import Spec
from golden import Golden

NORMS = {  # the reference's name: our part
    "allnorm": Spec("allnorm"),
    "gn_instance": Spec("groupnorm", groups=12),
    "gn_layer": Spec("groupnorm1"),
    "position": Spec("layernorm"),
    "batch_u": Spec("uncentered_batchnorm"),
    "group_u": Spec("uncentered_groupnorm", groups=3),
    "gn_instance_u": Spec("uncentered_groupnorm", groups=12),
    "gn_layer_u": Spec("uncentered_groupnorm", groups=1),
    "allnorm_u": Spec("uncentered_allnorm"),
    "position_u": Spec("uncentered_layernorm"),
}


def test_bcos_norms():
    golden = Golden("b_cosification--bcos_norms--official")
    model = nn.ModuleDict({name: build(spec, "norm", dim=12) for name, spec in NORMS.items()}).eval()
    assert sum(p.numel() for p in model.parameters()) == golden.parameters
    load_reference(model, golden.state(), "anyformer")  # our names of these entries are the reference's
    (x,) = golden.inputs().values()
    with torch.no_grad():
        golden.check({name: norm(x.movedim(1, -1)).movedim(-1, 1) for name, norm in model.items()})
