"""May I replace this recurrent layer by that one, when not, and what do I gain? Imports nothing heavy."""

__version__ = "0.1.0"
