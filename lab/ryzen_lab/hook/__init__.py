"""Loaded into every rank of a lab by Python itself; see `sitecustomize.py` here and `ryzen_lab_hook.py`."""
