"""Trackers of experiments (wandb, TensorBoard, CSV, none) and files of trained weights."""

from remora.tracking.registry import TRACKERS, create
from remora.tracking.tracker import Tracker, tracked

__all__ = ["TRACKERS", "Tracker", "create", "tracked"]
