"""The agents' clocks: which round each exporter is in, and how a rate is got from rounds."""
