"""The log of inputs: every call of the core, so that its decisions can be made again and compared."""
