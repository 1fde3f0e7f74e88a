"""What the project itself costs, each claim with its target: `make bench`, or `python -m benchmarks NAME …`."""
