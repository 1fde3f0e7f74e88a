"""The pytest plugin: one item per layer, case, regime and group of quantities. Imports no torch until an item runs."""
