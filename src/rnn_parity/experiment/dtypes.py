"""The dtypes in which layers are compared, from the finest to the coarsest."""

DTYPES = ["float64", "float32", "bfloat16", "float16"]
