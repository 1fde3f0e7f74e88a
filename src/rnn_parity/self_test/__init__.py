"""Planted faults and right layers, run through the checker: how often it misses, how often it cries wolf.

`sample` draws random cases, `examine` runs `mutants` and `correct` layers in a case, `rates` sums up the findings.
"""
