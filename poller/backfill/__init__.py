"""What was before the poller looked: read from keys and from Prometheus, beside the batches."""
