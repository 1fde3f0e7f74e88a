"""Trajectories as sequences of tokens: walks drawn here, t2vec's own files, GPS tracks; and batches of them.

A trajectory is a list of tokens; the cells come after the `SPECIAL_TOKENS` of `models.t2vec`.
"""
