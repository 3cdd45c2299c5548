"""Test infrastructure: real servers, faulty networks, scripted and live metrics."""
