"""A poller to try: a simulated cluster, servers to ask and to write to, and a live table."""
