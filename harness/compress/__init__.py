"""Fewer weights, or a smaller network that was taught: models to models."""
