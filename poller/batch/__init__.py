"""One batch: what is asked for, and one observation per kernel out of the answers."""
