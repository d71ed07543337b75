"""Training scripts that use nothing a user's could not."""
