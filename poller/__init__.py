"""Writes kernels' live statistics from Prometheus to Redis or Valkey in the legacy format."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("livestat-poller")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
