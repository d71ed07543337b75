"""GPUs: what a driver is asked (`nvml.py`, `amd.py`), and what follows from the answers (`rules/`, `samples.py`).

    access.py      the NVML library of this process, opened once for all collectors
    reading.py     what was read of one GPU in one look; None is "not supported here"
    nvml.py        fills it from nvidia-ml-py        amd.py  from amdsmi
    rules/         conditions, pure functions of a GPU's reading, its past looks and its peers; one visible list
    thermal.py     the arithmetic of heat: limits, peers, trend
    power_cap.py   the one thing that is done: a lower power limit for a GPU that throttles, where it is asked for
    looks.py       one look at all GPUs: the above in their order
    samples.py     the same reading under OpenTelemetry's names

A reading that a GPU or a driver does not have is not asked for again. An error that says that the GPU is lost is
one, whichever call gave it.
"""
