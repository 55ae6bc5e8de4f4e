"""Asking a scheduler, and what the others would have cost."""

from __future__ import annotations
