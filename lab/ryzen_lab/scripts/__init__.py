"""Training scripts of the lab's own."""
