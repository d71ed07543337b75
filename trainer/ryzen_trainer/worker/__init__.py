"""Warm ranks: `torchrun --no-python ryzen-worker train.py` forks a rank instead of importing torch for it.

    stub.py          what torchrun starts: hands its surroundings to the nursery, then mirrors the rank's fate
    founding.py      has the nursery founded before there is a stub, while torchrun waits for a world
    nursery.py       a process a torchrun that has imported torch and forks a rank for each stub
    children.py      what it has forked
    newborn.py       what happens in the child, from the fork to the first line of the script
    standby.py       optionally, a child forked beforehand that has its GPU's context
    surroundings.py  what a process inherits: read in the stub, put on in the rank
    numa.py          a process's NUMA policy, one of these
    preload.py       what is imported beforehand, and what makes a fork unsafe
    place.py         where a nursery is reached, and that there is one of it
    wire.py          messages between stub and nursery

What is on the stub's way imports next to nothing: stub.py says why and how.
"""
