"""A checkpoint rewritten for the other layer: `rnn-parity convert`.

`files` reads and writes without ever running a pickle, `stacks` finds a recurrent stack in a checkpoint and renames its
keys, `optimizers` sees that Adam's moments stay with their parameters, `proof` holds what was written against what was
read, `convert` does it all in this order.
"""
