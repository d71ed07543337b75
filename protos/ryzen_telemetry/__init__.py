"""What agent and coordinator tell the tools that a team already has: metrics, traces, logs. See `pipeline`."""
