"""Splits torch's fused kernels (attention, recurrent layers) into single operations while profiling."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_ATTENTION = {torch._C._nn.scaled_dot_product_attention, F.scaled_dot_product_attention}


class MathPaths(TorchFunctionMode):
    """Runs attention and recurrent layers on the path made of matrix products.

    Each call of a torch function gets a number, which tells apart the products inside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever the function returns
        """Call a function of torch."""
        self.calls += 1
        options = kwargs or {}
        if func in _ATTENTION:
            return attention(*args, **options)
        if getattr(func, "__name__", "") in _RECURRENT:
            with _without_fused_layers():
                return func(*args, **options)
        return func(*args, **options)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``scaled_dot_product_attention`` as defined in its documentation.

    The scale is applied after q kᵀ and can be folded into what follows. Torch's own unfused path scales q and
    k, which turns spikes into analog values.
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (side.repeat_interleave(repeats, -3) for side in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        boolean = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if boolean else scores + attn_mask
    weights = torch._safe_softmax(scores, -1)
    return F.dropout(weights, dropout_p) @ value if dropout_p else weights @ value


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Disable oneDNN and cuDNN, which run a recurrent layer as one operation."""
    onednn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)


@contextmanager
def math_paths() -> Iterator[MathPaths]:
    """Within the block, no kernel runs several products as one operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
            if "torch._dynamo" in sys.modules:  # something may be compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield stack.enter_context(MathPaths())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
