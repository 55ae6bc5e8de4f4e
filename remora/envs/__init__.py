"""The Gymnasium environment, its observations and the sampler of problems.

Importing this package registers ``remora/Schedule-v0``.
"""

from remora.envs.registration import SCHEDULE_ENV_ID, register

__all__ = ["SCHEDULE_ENV_ID"]

register()
