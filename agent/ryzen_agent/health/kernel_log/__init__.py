"""The kernel's log: lines of any form (`records`) -> findings (`patterns`, `finder`), repeated ones folded (`bursts`).

Pure but for `device` and `textfile`, which follow a log, `place`, which remembers how far, and `command`, the tool.
"""
