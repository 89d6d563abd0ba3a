"""Tables of torch's operations: which multiply and add, which are elementwise, which only move values.

The profile lists an operation that is in none of these tables as not counted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

# Those whose second factor is stored transposed, columns first.
COLUMNS_FIRST = {"aten::linear", "aten::_weight_int8pack_mm"}
# Matrix products: the positions of the two factors and of a bias among the arguments.
MATRIX_PRODUCTS: dict[str, tuple[int, int, int | None]] = {
    "aten::mm": (0, 1, None),
    "aten::bmm": (0, 1, None),
    "aten::mv": (0, 1, None),
    "aten::dot": (0, 1, None),
    "aten::vdot": (0, 1, None),
    "aten::addmm": (1, 2, 0),
    "aten::addmv": (1, 2, 0),
    "aten::baddbmm": (1, 2, 0),
    "aten::addbmm": (1, 2, 0),
    "aten::_addmm_activation": (1, 2, 0),
    "aten::_int_mm": (0, 1, None),
    "aten::_scaled_mm": (0, 1, 4),
    "aten::_scaled_mm_v2": (0, 1, 8),
    "aten::linear": (0, 1, 2),
    "aten::_weight_int8pack_mm": (0, 1, None),
    "aten::_sparse_addmm": (1, 2, 0),
    "aten::_sparse_mm": (0, 1, None),
    "aten::_sparse_sparse_matmul": (0, 1, None),
}
CONVOLUTIONS = {"aten::convolution", "aten::_convolution", "aten::convolution_overrideable"}
# Matrix products in groups: the position of the groups' ends among the arguments.
GROUPED = {"aten::_grouped_mm": 2, "aten::_scaled_grouped_mm": 4, "aten::_scaled_grouped_mm_v2": 8}
OUTER_PRODUCTS = {"aten::addr": (1, 2, 0)}

_MOVED = """
    _adaptive_avg_pool2d_backward _cast _conj _copy_from _efficientzerotensor _embedding_bag_forward_only
    _fused_dropout _local_scalar_dense _nested_view_from_buffer _pack_padded_sequence _pad_packed_sequence
    _reshape_alias _reshape_copy _to_copy _to_dense _to_sparse _unique _unique2 _unsafe_index _unsafe_view
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d alias_copy amax amin aminmax argmax argmin
    argsort as_strided block_diag bucketize bernoulli cat channel_shuffle clone col2im combinations
    constant_pad_nd copy copy_ count_nonzero cummax cummin dequantize diag diag_embed diagonal_copy
    diagonal_scatter dropout embedding embedding_renorm_ empty_permuted equal expand_copy fill flip
    fractional_max_pool2d fractional_max_pool3d gather im2col index index_add index_copy index_fill index_put
    index_select int_repr isin item kthvalue lift lift_fresh lift_fresh_copy masked_fill masked_scatter
    masked_select max max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d median min
    mkldnn_max_pool2d mode multinomial narrow_copy native_channel_shuffle native_dropout nonzero
    nonzero_static one_hot pad permute_copy pixel_shuffle pixel_unshuffle put quantize_per_channel
    quantize_per_tensor quantize_per_tensor_dynamic record_stream reflection_pad1d reflection_pad2d
    reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize_
    roll rot90 scatter searchsorted select_backward select_scatter set_ slice_backward slice_scatter sort
    sparse_mask split_copy split_with_sizes_copy stack take to_mkldnn to_dense topk trace tril tril_indices
    triu triu_indices unfold_copy unique_consecutive unique_dim unsafe_split unsafe_split_with_sizes
    grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d view_as_complex view_as_real where _assert_async
    _assert_tensor_metadata _functional_assert_async transpose t
    squeeze unsqueeze as_strided detach swapdims swapaxes squeeze_copy unsqueeze_copy t_copy transpose_copy
    view_copy unbind_copy as_strided_copy as_strided_scatter resize resize_as resize_as_ _resize_output
    _unsafe_index_put _unsafe_masked_index _pin_memory nanmedian _chunk_cat is_pinned is_coalesced
    _linalg_check_errors sym_size sym_numel sym_stride is_same_size
    _is_all_true _is_any_true any all allclose set_data
"""
_ADDED = """
    add sub rsub sum cumsum nansum neg abs mean var_mean avg_pool1d avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    mkldnn_adaptive_avg_pool2d segment_reduce scatter_add scatter_reduce index_reduce _embedding_bag bincount
    _foreach_add _foreach_sub histc
"""
# Averages of many values are additions whose results are not whole numbers; softmax and normalisations are
# functions of many values. Both are listed here so that they do not count as unknown operations.
_AVERAGES = {"mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"}
_FUNCTIONS = """
    _softmax _log_softmax softmax log_softmax logsumexp _logcumsumexp logcumsumexp std std_mean var
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training batch_norm_with_update
    _batch_norm_no_update _batch_norm_with_update cudnn_batch_norm miopen_batch_norm native_group_norm
    native_layer_norm _fused_rms_norm rms_norm batch_norm_elemt norm linalg_vector_norm glu
    _thnn_fused_lstm_cell _thnn_fused_gru_cell _pdist_forward _cdist_forward renorm
    nll_loss_forward nll_loss2d_forward soft_margin_loss
    _weight_norm_interface binary_cross_entropy_with_logits _safe_softmax _masked_softmax dist
    bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift celu copysign div elu gelu
    hardshrink hardsigmoid hardswish isinf isnan leaky_relu log_sigmoid_forward mish remainder softplus
    softshrink _prelu_kernel rrelu_with_noise _masked_scale xlogy binary_cross_entropy mse_loss huber_loss
    smooth_l1_loss eq ne lt gt le ge gcd lcm
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams fake_quantize_per_tensor_affine_cachemask
    fake_quantize_per_channel_affine_cachemask _fused_moving_avg_obs_fq_helper
"""
_FACTORIES = """
    arange eye full full_like hann_window linspace logspace new_empty new_empty_strided new_full new_ones
    new_zeros normal ones ones_like rand rand_like randint randint_like randn randn_like randperm
    scalar_tensor zeros zeros_like normal_functional _sparse_coo_tensor_unsafe bernoulli_p hamming_window
    complex polar sparse_coo_tensor poisson uniform exponential geometric log_normal cauchy zero
"""
_EMPTY = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
_FILLED = {"fill_", "zero_", "normal_", "uniform_", "random_", "exponential_", "log_normal_", "cauchy_"}
# Normalisations by channel means and variances, which can be folded into the preceding layer.
NORMALISATIONS = {
    "aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::_native_batch_norm_legit_no_training",
    "aten::cudnn_batch_norm", "aten::miopen_batch_norm", "aten::_batch_norm_no_update",
    "aten::_batch_norm_with_update", "aten::native_group_norm",
}  # fmt: skip
_POOLS = {
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "mkldnn_max_pool2d", "mkldnn_adaptive_avg_pool2d", "fractional_max_pool2d",
    "fractional_max_pool3d",
}  # fmt: skip
_MULTIPLIED = {"mul", "addcmul", "square", "_foreach_mul"}
_ROUNDED = {"round", "floor", "ceil", "trunc", "sign", "floor_divide", "heaviside", "sgn"}
_KEPT = {"relu", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "hardtanh", "relu6", "threshold"}
_KEPT |= {"fmax", "fmin", "where", "masked_fill", "positive", "nan_to_num", "detach", "lift_fresh"}


_WAYS: tuple[tuple[str, Collection[str]], ...] = (
    ("empty", _EMPTY),
    ("factory", frozenset(_FACTORIES.split())),
    ("filled", _FILLED),
    ("moved", _KEPT | set(_MOVED.split())),
    ("averaged", _AVERAGES),
    ("added", frozenset(_ADDED.split())),
    ("multiplied", _MULTIPLIED),
    ("rounded", _ROUNDED),
)
_KNOWN_FUNCTIONS = frozenset(_FUNCTIONS.split())


@dataclass(frozen=True, slots=True)
class Operator:
    """What is known of an operation.

    Attributes:
        name: with its namespace, without its overload.
        how: how origins pass through it, see :func:`aspk.profiling.provenance.joined`;
            ``factory``, ``empty`` or ``filled`` where nothing passes.
        group: ``addition``, ``multiplication``, ``squares`` (of one operand) or ``pooling``; else empty.
        known: whether it is in a table.
        written: positions (or names) of the arguments that it writes into.
    """

    name: str
    how: str
    group: str
    known: bool
    written: tuple[int | str, ...]


@lru_cache(maxsize=4096)
def operator(function: OpOverload) -> Operator:
    """What is known of an operation of torch."""
    schema = function._schema
    name = str(schema.name)
    space, _, own = name.partition("::")
    plain = own.rstrip("_") if own not in _FILLED and own not in ("copy_", "resize_", "set_") else own
    written = tuple(
        argument.name if argument.kwarg_only else place
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    pointwise = torch.Tag.pointwise in function.tags
    view = function.is_view
    how = _how(plain, view=view)
    known = (space in ("aten", "prims", "profiler") and (how != "other" or plain in _KNOWN_FUNCTIONS)) or (
        pointwise or view or not any("Tensor" in str(argument.type) for argument in schema.arguments)
    )
    return Operator(name, how, _group(plain), known, written)


def _how(name: str, *, view: bool) -> str:
    if view:
        return "moved"
    return next((how for how, names in _WAYS if name in names), "other")


def _group(name: str) -> str:
    if name in _POOLS:
        return "pooling"
    if name in ("add", "sub", "rsub", "_foreach_add", "_foreach_sub"):
        return "addition"
    if name in ("norm", "linalg_vector_norm", "square"):
        return "squares"
    return "multiplication" if name in ("mul", "addcmul") else ""


def tensors(values: Any) -> list[Tensor]:  # noqa: ANN401  # the arguments of any operation
    """All tensors in nested arguments, in order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in tensors(value)]
