"""Hides the sitecustomize of the environment from the nursery: each rank runs it itself, in its own environment."""
