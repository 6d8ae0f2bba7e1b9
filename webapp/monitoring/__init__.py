"""What the hub tells about itself: metrics, and what the console shows of the last minutes."""
