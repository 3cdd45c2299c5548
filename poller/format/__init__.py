"""The legacy bytes: the metrics, the text of numbers, the values of keys."""
