"""What the kernel and the drivers know of this node. `watch.py` runs the collectors, one file each."""
