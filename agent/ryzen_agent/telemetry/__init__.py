"""What the agent exports: series of its ranks and devices, events, and its part of an incident's trace."""
