"""`ryzen-lab bench`: the figures of docs/benchmarks.md, each with the command that makes it.

Figures are for reading, never for a test: a loaded machine makes every one of them worse.
"""
