"""Restoration models against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model, load_reference
from golden import Golden

CASES = {  # golden: name for create_model
    "uformer--uformer_t--official": "official:Uformer_T",
    "drct--drct_srx4--official": "official:DRCT_SRx4",
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    golden = Golden(name)
    model = create_model(CASES[name]).eval()
    assert model.num_parameters() == golden.parameters
    load_reference(model, golden.state(), golden.source)
    (images,) = golden.inputs().values()
    with torch.no_grad():
        golden.check({"output": model(images)})
