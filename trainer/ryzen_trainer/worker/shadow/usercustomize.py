"""Hides the usercustomize of the environment from the nursery, see sitecustomize.py."""
