"""Softmax attention: `plain` is the equation, `fused` is torch's fused kernel; `attend` picks."""

from anyformer.kernels.attention.fused import attend
from anyformer.kernels.attention.plain import allowed, attention_plain, attention_weights

__all__ = ["allowed", "attend", "attention_plain", "attention_weights"]
