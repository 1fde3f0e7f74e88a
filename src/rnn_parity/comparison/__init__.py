"""Two runs of an experiment held against each other: two machines, two versions, CPU against GPU.

`match` finds the cases that both have and what became of them, `figures` draws it, `write` puts it into files.
"""
