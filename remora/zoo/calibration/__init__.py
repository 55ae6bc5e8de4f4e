"""Random networks of generic building blocks, whose operator times calibrate a cost model.

They imitate no architecture: what a device needs for an operator is learned from them, and every
model of the zoo stays unseen.
"""

from remora.zoo.calibration.model import calibration

__all__ = ["calibration"]
