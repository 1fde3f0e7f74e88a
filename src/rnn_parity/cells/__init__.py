"""The kinds of cells: their equations in float64, forward and backward, which judge every implementation."""
