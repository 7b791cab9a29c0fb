"""When a tensor's memory may be written over: in inference on a CPU, where fresh memory is what costs most."""

from __future__ import annotations

import torch
from torch import Tensor


def inference_on_cpu(x: Tensor) -> bool:
    """Whether plain tensors are being computed on a CPU with nothing recorded: no gradient, graph or autocast."""
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and len(torch.utils._python_dispatch._get_current_dispatch_mode_stack()) == 0
    )


def overwritable(y: Tensor, x: Tensor) -> bool:
    """Whether the result of `x` and `y` may be written into `y`, a branch's fresh output that is nobody else's."""
    return (
        inference_on_cpu(x)
        and y.shape == x.shape
        and y.dtype == x.dtype
        and y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    )
