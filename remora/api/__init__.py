"""The one-call functions and the closed loop of planning and measuring."""
