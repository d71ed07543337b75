"""The reference trainer: a small GPT on the source of Python's standard library.

Nothing here is private to Ryzen; a user's script can do all of it. Start: `python -m ryzen_trainer.examples.gpt`.
"""
