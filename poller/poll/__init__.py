"""One poll: from the question to the keys."""
