"""Planted faults and right layers, run through the checker: how often it misses, how often it cries wolf."""
