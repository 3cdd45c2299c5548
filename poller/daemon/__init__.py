"""The daemon's life: ticks, leadership, what it tells."""
