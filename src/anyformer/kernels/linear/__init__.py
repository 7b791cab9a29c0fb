"""Linear layer and activation in one pass; `plain` is the equation, `fused` one oneDNN call without a second tensor."""

from anyformer.kernels.linear.fused import linear_act
from anyformer.kernels.linear.plain import ACTIVATIONS, linear_act_plain

__all__ = ["ACTIVATIONS", "linear_act", "linear_act_plain"]
