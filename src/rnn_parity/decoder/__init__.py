"""The workload `decoder`: a layer replaced where it is used, in t2vec's decoder, and what that changes.

`given` draws what all are given and builds the model, `places` fixes the dropout masks everywhere in it, `reference`
has its equations in float64 around the oracle, and `equivalence` holds the models against them. `timing` times the
decoder, the whole training step and the ways between the original and the replaced one; `training` trains both.
"""
