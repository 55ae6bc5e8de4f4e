"""Groups of operators that do the same kind of work, for what one name alone cannot teach."""

from __future__ import annotations

import math
from collections.abc import Mapping

from remora.graph.model_graph import ModelGraph, Op

__all__ = ["CLASSES", "base_name", "op_class"]

_BY_NAME: Mapping[str, str] = {
    "matmul": "mm addmm bmm baddbmm addbmm mv addmv dot linear",
    "convolution": "convolution _convolution",
    "convolution_backward": "convolution_backward",
    "norm": "native_layer_norm native_batch_norm native_group_norm cudnn_batch_norm "
    "_native_batch_norm_legit _fused_rms_norm",
    "norm_backward": "native_layer_norm_backward native_batch_norm_backward "
    "native_group_norm_backward cudnn_batch_norm_backward _fused_rms_norm_backward",
    "softmax": "_softmax _log_softmax _safe_softmax",
    "softmax_backward": "_softmax_backward_data _log_softmax_backward_data",
    "attention": "_scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention",
    "attention_backward": "_scaled_dot_product_flash_attention_for_cpu_backward "
    "_scaled_dot_product_flash_attention_backward "
    "_scaled_dot_product_efficient_attention_backward "
    "_scaled_dot_product_cudnn_attention_backward",
    "reduction": "sum mean var std var_mean amax amin max min argmax argmin prod any all norm "
    "linalg_vector_norm logsumexp mse_loss",
    "scan": "cumsum cumprod sort topk",
    "copy": "clone copy _to_copy cat stack constant_pad_nd slice_backward select_backward roll "
    "repeat flip slice_scatter select_scatter tril triu diagonal_backward unfold_backward",
    "fill": "zeros ones full fill zero new_zeros new_ones new_full zeros_like ones_like full_like "
    "arange linspace scalar_tensor eye",
    "empty": "empty empty_like empty_strided new_empty new_empty_strided",
    "gather": "embedding index gather index_select take nll_loss_forward nll_loss2d_forward",
    "scatter": "embedding_dense_backward index_put _unsafe_index_put scatter scatter_add "
    "index_add nll_loss_backward nll_loss2d_backward",
    "random": "bernoulli rand randn randint normal uniform native_dropout rand_like randn_like",
    "pool": "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d "
    "upsample_nearest2d upsample_bilinear2d",
    "pool_backward": "max_pool2d_with_indices_backward avg_pool2d_backward "
    "_adaptive_avg_pool2d_backward upsample_nearest2d_backward upsample_bilinear2d_backward",
    "fft": "_fft_r2c _fft_c2r _fft_c2c",
    "costly_pointwise": "exp log log2 log1p expm1 tanh sigmoid erf gelu gelu_backward silu "
    "silu_backward softplus softplus_backward sin cos tan atan2 pow mish elu",
}
_CLASS_OF_NAME = {name: kind for kind, names in _BY_NAME.items() for name in names.split()}

CLASSES = (*_BY_NAME, "view", "pointwise", "other")
"""All groups; what no table names is a view, pointwise by its shapes, or ``other``."""


def base_name(op: Op) -> str:
    """Return the operator without namespace of overloads: ``aten.add_.Tensor`` is ``aten.add``.

    Writing in place is told apart by ``Op.mutates``.
    """
    namespace, _, rest = op.name.partition(".")
    name = rest.partition(".")[0]
    inner = name.rstrip("_") if not name.startswith("__") else name
    return f"{namespace}.{inner}"


def op_class(graph: ModelGraph, op: Op) -> str:
    """Return one of :data:`CLASSES`.

    Args:
        graph: the graph that ``op`` belongs to.
        op: one of its operators.
    """
    if op.view:
        return "view"
    known = _CLASS_OF_NAME.get(base_name(op).partition(".")[2])
    if known is not None:
        return known
    inputs = [math.prod(graph.tensors[t].shape) for t in op.inputs]
    outputs = [math.prod(graph.tensors[t].shape) for t in op.outputs]
    pointwise = bool(inputs) and bool(outputs) and outputs[0] >= max(inputs)
    return "pointwise" if pointwise else "other"
