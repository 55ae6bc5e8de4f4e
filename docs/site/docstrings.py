"""Docstrings as Markdown: roles become plain code, and shapes are not taken for links."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):(`[^`]+`)")
_SHAPES = re.compile(r"(?<=\])\[(?=\w)")


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object that is collected."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the text before it is parsed into sections."""
        if obj.docstring is not None:
            text = _ROLE.sub(r"\1", obj.docstring.value)
            obj.docstring.value = _SHAPES.sub(r" x [", text)
