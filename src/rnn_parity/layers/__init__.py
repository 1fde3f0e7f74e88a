"""What is compared: the layers, their parameters, and what all of them are given."""
