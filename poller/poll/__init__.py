"""One poll: its time, what is withheld and why, what is written, and what came of it."""
