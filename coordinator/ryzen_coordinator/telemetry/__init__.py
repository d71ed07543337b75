"""What the coordinator exports: sums over ranks, counts of nodes, one trace an incident."""
