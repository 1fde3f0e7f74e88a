"""The equations of each kind of cell in float64 on the CPU, forward and backward: the judge."""
