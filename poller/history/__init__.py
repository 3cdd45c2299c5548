"""What is kept of each kernel, and what measurements, keys and the past change in it."""
