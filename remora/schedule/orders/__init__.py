"""The order of tasks on every rank, for every kind of pipeline."""

from remora.schedule.orders.order import Order, OrderRule, TaskKind
from remora.schedule.orders.registry import (
    PipelineKind,
    allowed_chunks,
    check_pipeline,
    kind_title,
    model_copies,
    pipeline_order,
    registered_kinds,
    splits_backward,
)

__all__ = [
    "Order",
    "OrderRule",
    "PipelineKind",
    "TaskKind",
    "allowed_chunks",
    "check_pipeline",
    "kind_title",
    "model_copies",
    "pipeline_order",
    "registered_kinds",
    "splits_backward",
]
