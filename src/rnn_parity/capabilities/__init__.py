"""What a layer can do besides giving the right numbers: tried, one capability at a time."""
