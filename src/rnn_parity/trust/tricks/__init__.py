"""Planted faults of the clock: layers that only look fast, and what is said of them."""
