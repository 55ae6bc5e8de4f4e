"""Descriptions of devices and links, and the measurement of this machine."""
