"""Carries: gRPC in and out, the clock, the journal. Decides nothing."""
