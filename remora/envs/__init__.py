"""The Gymnasium environments, their observations and the sampler of problems.

Importing this package registers ``remora/Schedule-v0`` and ``remora/JointSchedule-v0``.
"""

from remora.envs.registration import JOINT_ENV_ID, SCHEDULE_ENV_ID, register

__all__ = ["JOINT_ENV_ID", "SCHEDULE_ENV_ID"]

register()
