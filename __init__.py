"""cerebridge: brain recordings and model activations in one labelled array, related in one framework."""

__version__ = "0.1.0"
