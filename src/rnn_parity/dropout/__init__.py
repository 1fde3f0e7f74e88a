"""Dropout masks: seen, imposed, recovered, and compared as distributions."""
