"""Commands for people, and how their results are printed."""
