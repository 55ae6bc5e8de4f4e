"""Which reader of sizes an operator has, by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from remora.cost_models.gnn.op_classes import base_name
from remora.cost_models.gnn.op_product_shapes import (
    attention,
    attention_backward,
    convolution,
    convolution_backward,
    product,
)
from remora.cost_models.gnn.op_row_shapes import (
    along,
    batch_norm,
    by_size,
    fft,
    group_norm,
    layer_norm,
    piece,
    pool,
    reduction,
    repeat,
    table,
)
from remora.cost_models.gnn.op_shapes import OpShape
from remora.graph.model_graph import ModelGraph, Op, TensorView

__all__ = ["op_shape"]

_Reader = Callable[[Op, list[TensorView], list[TensorView]], OpShape | None]

_READER_NAMES: Mapping[_Reader, str] = {
    product: "mm addmm bmm baddbmm addbmm",
    convolution: "convolution _convolution",
    convolution_backward: "convolution_backward",
    attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention",
    attention_backward: "_scaled_dot_product_flash_attention_for_cpu_backward "
    "_scaled_dot_product_flash_attention_backward "
    "_scaled_dot_product_efficient_attention_backward "
    "_scaled_dot_product_cudnn_attention_backward",
    fft: "_fft_r2c _fft_c2r _fft_c2c",
    along: "_softmax _log_softmax _safe_softmax _softmax_backward_data "
    "_log_softmax_backward_data cumsum cumprod gather",
    piece: "cat stack slice_backward select_backward slice_scatter select_scatter",
    reduction: "sum mean var std var_mean amax amin argmax argmin prod any all",
    layer_norm: "native_layer_norm native_layer_norm_backward _fused_rms_norm",
    batch_norm: "native_batch_norm native_batch_norm_backward",
    group_norm: "native_group_norm native_group_norm_backward",
    pool: "max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d avg_pool2d_backward",
    repeat: "repeat",
    table: "embedding embedding_dense_backward index index_put index_select nll_loss_forward "
    "nll_loss2d_forward nll_loss_backward nll_loss2d_backward",
}
_READERS = {f"aten.{n}": reader for reader, names in _READER_NAMES.items() for n in names.split()}


def op_shape(graph: ModelGraph, op: Op) -> OpShape:
    """Read the sizes of an operator's work off its arguments.

    Args:
        graph: the graph that ``op`` belongs to.
        op: one of its operators.
    """
    inputs = [graph.tensors[t] for t in op.inputs]
    outputs = [graph.tensors[t] for t in op.outputs]
    reader = _READERS.get(base_name(op))
    shape = reader(op, inputs, outputs) if reader is not None else None
    return shape if shape is not None else by_size(op, inputs, outputs)
