"""All real servers of the tests, in one place to import from."""

from .metric_servers import MetricServer, Prometheus, VictoriaMetrics, scrape_config
from .process import HOST, Server, StartFailedError, free_port, require, wait_until
from .redis_cluster import ClusterNode, RedisCluster, slot_of
from .redis_server import Redis
from .sentinel import Sentinel, SentinelGroup

__all__ = [
    "HOST",
    "ClusterNode",
    "MetricServer",
    "Prometheus",
    "Redis",
    "RedisCluster",
    "Sentinel",
    "SentinelGroup",
    "Server",
    "StartFailedError",
    "VictoriaMetrics",
    "free_port",
    "require",
    "scrape_config",
    "slot_of",
    "wait_until",
]
