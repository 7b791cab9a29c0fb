"""When a tensor's memory may be written over: in inference on a CPU, where fresh memory is what costs most."""

from __future__ import annotations

from typing import Any

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


def over(module: Any, x: Tensor) -> Tensor:
    """module(x) for an `x` that is nobody else's; in inference on a CPU in its memory, by `module.into` where it is.

    A module with hooks is called as ever, for somebody may keep what goes in. A hook of the layer that gave `x` copies
    what it keeps, as taps do.
    """
    into = getattr(module, "into", None)
    if into is None or module._forward_hooks or module._forward_pre_hooks or not inference_on_cpu(x):
        return module(x)
    return into(x)
