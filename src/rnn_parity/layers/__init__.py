"""The compared layers: their registry, parameters and stimulus, and how they are run."""
