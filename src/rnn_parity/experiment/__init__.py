"""What is asked: words, config, grid, paths, devices. Imports no torch."""
