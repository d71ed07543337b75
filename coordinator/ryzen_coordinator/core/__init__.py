"""The decisions. Nothing in here knows a clock, chance, a file or a socket."""
