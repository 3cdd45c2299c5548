"""What the library raises, as ours: a reason, whole words, and nothing of what was sent."""

from __future__ import annotations

import inspect

import pytest
import redis.exceptions as gone_wrong
from redis.connection import DefaultParser
from redis.sentinel import MasterNotFoundError

from poller.errors import StoreError
from poller.store.connections import StoreAccess
from poller.store.errors import translate
from poller.store.keys import Store
from tests.support.servers import Redis

KEY = "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
CLASSES = [
    kind
    for _, kind in inspect.getmembers(gone_wrong, inspect.isclass)
    if issubclass(kind, gone_wrong.RedisError)
    and not issubclass(kind, gone_wrong.MovedError | gone_wrong.AskError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_no_error_is_told_by_its_class_name(kind: type[Exception]):
    try:
        error = kind("something")
    except TypeError:
        pytest.skip("made by the library alone")
    told = translate(error)
    assert kind.__name__ not in told.detail
    assert " " in told.detail


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (gone_wrong.NoPermissionError("this user has no permissions to run the 'scan' command"),
         "forbidden", "the user may not run SCAN"),
        (gone_wrong.NoPermissionError(f"No permissions to access a key '{KEY}'"),
         "forbidden", "the user may not do this"),
        (gone_wrong.ResponseError("The user executing the script can't run this command or "
                                  "subcommand script: f, on @user_script:2."),
         "forbidden", "the user may not do this"),
        (gone_wrong.ResponseError(f"Command # 1 (GET {KEY}) of pipeline caused error: "
                                  "('WRONGTYPE Operation against a key',)"),
         "wrong_type", "the key holds another type than string"),
        (gone_wrong.ResponseError(f"Command # 1 (GET {KEY}) of pipeline caused error: "
                                  "WRONGTYPE Operation against a key"),
         "wrong_type", "the key holds another type than string"),
        (gone_wrong.ConnectionError("max number of clients reached"),
         "connection", "the server takes no more connections"),
        (gone_wrong.ResponseError("DB index is out of range"),
         "error_reply", "the server has no database of that number"),
        (gone_wrong.ResponseError(f"unknown command 'EVAL', with args beginning with: '{KEY}'"),
         "error_reply", "the server says: unknown command"),
        (gone_wrong.ResponseError("This instance has cluster support disabled"),
         "error_reply", "the server is no part of a cluster"),
        (gone_wrong.MovedError("1 127.0.0.1:7000"),
         "moved", "the key is on another node"),
        (OSError(111, "Connect call failed ('10.0.0.1', 6379)"),
         "connection", "connection refused"),
        (TimeoutError(), "timeout", "no answer in time"),
        (gone_wrong.TimeoutError("Timeout reading from h:6379"), "timeout", "no answer in time"),
        (gone_wrong.ConnectionError("Connection closed by server."),
         "connection", "the connection broke"),
        (MasterNotFoundError("No master found for 'mymaster'"),
         "connection", "no sentinel that answers knows the master"),
        (gone_wrong.RedisClusterException("Redis Cluster cannot be connected."),
         "cluster_down", "no node of the cluster answers"),
        (gone_wrong.RedisClusterException("another cluster answers"),
         "cluster_down", "what answers is of another cluster"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_told_is_whole_words_and_no_argument(error: Exception, reason: str, detail: str):
    told = translate(error)
    assert (told.reason, told.detail) == (reason, detail)
    assert KEY not in str(told) + told.advice


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        ("LOADING Redis is loading the dataset in memory",
         "loading", "the server reads its data set"),
        ("READONLY You can't write against a read only replica.",
         "readonly", "the server is a replica and takes no writes"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
         "readonly", "the replica has lost its master"),
        ("OOM command not allowed when used memory > 'maxmemory'.",
         "out_of_memory", "the server is out of memory"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist "
         "to disk.", "misconfigured", "the server takes no writes"),
        ("CLUSTERDOWN Hash slot not served", "cluster_down", "the cluster is down"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "moved", "slots are moving"),
        ("ASK 3999 127.0.0.1:6381", "moved", "the key is on another node"),
        ("NOAUTH Authentication required.", "unauthorized", "a password is asked for"),
        ("WRONGPASS invalid username-password pair or user is disabled.",
         "unauthorized", "user or password is refused"),
        ("ERR wrong number of arguments for 'auth' command",
         "unauthorized", "the server knows no users"),
        ("NOPERM User poller has no permissions to run the 'eval' command",
         "forbidden", "the user may not run EVAL"),
        ("ERR ACL failure in script: User poller has no permissions to run the 'set' command",
         "forbidden", "the user may not run SET"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value",
         "wrong_type", "the key holds another type than string"),
        ("LATE", "late", "the write came after the lease"),
        ("ERR invalid DB index", "error_reply", "that is no database"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_a_server_replies_is_told_apart_as_the_library_reads_it(
    reply: str, reason: str, detail: str
):
    told = translate(DefaultParser.parse_error(reply))
    assert (told.reason, told.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user:pass@h:6379/3", "redis://h:6379/3"),
        ("rediss://:p%40ss@h", "rediss://h"),
        ("redis://:p/a@ss@h:1/0", "redis://h:1/0"),
        ("redis://:half?whole@h:1/0", "redis://…"),
        ("unix://:hush@/run/redis.sock?db=1&password=hush", "unix:///run/redis.sock"),
        ("redis+sentinel://u:p@a:1,b:2/service/0", "redis+sentinel://a:1,b:2/service/0"),
    ],
)
def test_an_address_has_no_credentials(url: str, address: str):
    assert StoreAccess(url).address == address


async def test_a_server_that_takes_no_more_clients_is_not_told_to_be_started_alone():
    """It says so and hangs up; which of the two is met first is chance."""
    with Redis(settings=["maxclients 1"]) as redis, redis.client() as only:
        only.ping()
        async with Store(StoreAccess(redis.url)) as store:
            with pytest.raises(StoreError) as raised:
                await store.read([KEY])
    assert raised.value.reason == "connection"
    assert "maxclients" in raised.value.advice


def test_a_failure_names_one_address_once():
    error = translate(TimeoutError()).at("redis://h").at("redis://other")
    assert (error.address, error.detail) == ("redis://h", "no answer in time (redis://h)")
    assert str(error) == "timeout: no answer in time (redis://h)"
