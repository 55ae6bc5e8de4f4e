"""Models with random weights and an example batch each, built from sizes without downloads.

Importing this package is cheap: an architecture, and torch with it, is imported when it is built.
"""

from remora.zoo.example import Example
from remora.zoo.registry import ARCHITECTURES, build, build_target

__all__ = ["ARCHITECTURES", "Example", "build", "build_target"]
