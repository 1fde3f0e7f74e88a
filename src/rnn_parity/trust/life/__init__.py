"""Planted faults of the life: layers of any kind that one call shows right.

Import paths are `rnn_parity.trust.life.MODULE:NAME`.
"""

from rnn_parity.trust.life import edges, forms, gradients, loading, masks, repetition, sizes, weights  # noqa: F401, each plants its own
