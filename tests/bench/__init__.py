"""The measuring of a cycle: cost by part, beside the peer and the floor, at several sizes."""
