"""Restoration models against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest

from anyformer import create_model
from golden import Golden

CASES = {  # golden: name for create_model
    "uformer--uformer_t--official": "official:Uformer_T",
    "drct--drct_srx4--official": "official:DRCT_SRx4",
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    Golden(name).hold(create_model(CASES[name]), lambda model, inputs: {"output": model(*inputs.values())})
