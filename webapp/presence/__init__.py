"""Who is connected, on all workers and machines."""
