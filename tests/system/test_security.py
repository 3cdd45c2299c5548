"""Who may: credentials, certificates and the least rights, each asserted at the server."""

from __future__ import annotations

import base64
import re
import signal
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from poller.errors import LeaseLost, PollerError, PrometheusError, StoreError
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.store.lease import Lease
from tests.support.answers import Answer, unauthorized
from tests.support.command import environment, poller
from tests.support.live import PATIENT, LivePoller, settings, tables
from tests.support.process import HOST
from tests.support.rights import LEAST, UUID
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.tls import TlsFiles, tls_files
from tests.support.world import World

COMMANDS = re.findall(r"\+(\w+)", LEAST)
SPARABLE = ("pttl", "multi", "exec")
"""Without `pttl` nobody can tell when a key was written; without the others each costs a script."""
SECRET = "s3cret-of-the-poller"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def world(prometheus: ScriptedPrometheus) -> World:
    world = World(2)
    prometheus.handler = world.handler
    return world


@asynccontextmanager
async def opened(directory: Path, *urls: str, **more: Any) -> AsyncIterator[Cycle]:
    async with assembly.cycle(settings(directory, *urls, **more), PATIENT) as cycle:
        yield cycle


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def sent(prometheus: ScriptedPrometheus, name: str) -> set[str | None]:
    """Return every value of a header that queries came with since the last look."""
    values = {one.headers.get(name) for one in prometheus.requests if one.query}
    prometheus.requests.clear()
    return values


# --- towards Prometheus -------------------------------------------------------------------------

CREDENTIALS = [
    ({"prometheus__username": "me", "prometheus__password": SECRET}, basic("me", SECRET)),
    ({"prometheus__username": "me", "prometheus__password": "ü:x"}, basic("me", "ü:x")),
    ({"prometheus__bearer_token": SECRET}, f"Bearer {SECRET}"),
    ({"prometheus__headers": {"Authorization": f"Token {SECRET}"}}, f"Token {SECRET}"),
]


@pytest.mark.parametrize(("more", "header"), CREDENTIALS)
async def test_credentials_go_with_every_query(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path, more: Any, header: str
) -> None:
    async with opened(tmp_path, prometheus.url, redis.url, **more) as cycle:
        await cycle.poll()
    assert sent(prometheus, "Authorization") == {header}


async def test_user_information_in_the_url_is_basic_authentication(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    url = prometheus.url.replace("://", f"://me:{SECRET}@")
    async with opened(tmp_path, url, redis.url) as cycle:
        await cycle.poll()
        assert SECRET not in cycle.observer.client.url
    assert sent(prometheus, "Authorization") == {basic("me", SECRET)}


async def test_an_authorization_header_of_the_settings_goes_before_what_the_url_says(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    url = prometheus.url.replace("://", "://other:wrong@")
    more = {"prometheus__headers": {"Authorization": f"Bearer {SECRET}"}}
    async with opened(tmp_path, url, redis.url, **more) as cycle:
        await cycle.poll()
    assert sent(prometheus, "Authorization") == {f"Bearer {SECRET}"}


async def test_custom_headers_go_with_every_query_and_recall(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    secret = tmp_path / "tenant"
    secret.write_text("from-a-file\n")
    more = {
        "prometheus__headers": {"X-Scope-OrgID": "tenant"},
        "prometheus__header_files": {"X-Secret": secret},
    }
    async with opened(tmp_path, prometheus.url, redis.url, **more) as cycle:
        await cycle.poll()
    kept = list(prometheus.requests)
    assert sent(prometheus, "X-Scope-OrgID") == {"tenant"}
    prometheus.requests.extend(kept)
    assert sent(prometheus, "X-Secret") == {"from-a-file"}


@pytest.mark.parametrize(
    ("key", "more", "header", "form"),
    [
        ("password_file", {"prometheus__username": "me"}, "Authorization", "basic"),
        ("bearer_token_file", {}, "Authorization", "bearer"),
        ("header_files", {}, "X-Secret", "plain"),
    ],
)
async def test_credentials_are_read_again_when_they_change(
    prometheus: ScriptedPrometheus,
    redis: Redis,
    tmp_path: Path,
    key: str,
    more: Any,
    header: str,
    form: str,
) -> None:
    forms = {"basic": lambda text: basic("me", text), "bearer": "Bearer {}".format, "plain": str}
    made = forms[form]
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    value: Any = {"X-Secret": secret} if key == "header_files" else secret
    more = {**more, f"prometheus__{key}": value}
    async with opened(tmp_path, prometheus.url, redis.url, **more) as cycle:
        await cycle.poll()
        assert sent(prometheus, header) == {made("first")}
        secret.write_text("the second\r\n")
        await cycle.poll()
        assert sent(prometheus, header) == {made("the second")}
        secret.unlink()  # as in the moment in which it is replaced
        await cycle.poll()
        assert sent(prometheus, header) == {made("the second")}
        replacement = tmp_path / "next"
        replacement.write_text("third")
        replacement.rename(secret)
        await cycle.poll()
        assert sent(prometheus, header) == {made("third")}


async def test_the_cycle_after_a_token_was_renewed_is_good(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def handler(query: str, time: float, params: dict[str, str]) -> Answer:
        given = prometheus.requests[-1].headers.get("Authorization")
        return world.handler(query, time, params) if given == "Bearer new" else unauthorized()

    prometheus.handler = handler
    more = {"prometheus__bearer_token_file": token}
    async with opened(tmp_path, prometheus.url, redis.url, **more) as cycle:
        with pytest.raises(PrometheusError) as raised:
            await cycle.poll()
        assert raised.value.reason == "unauthorized"
        token.write_text("new")
        assert (await cycle.poll()).written == 2


@pytest.fixture
def demanding(files: TlsFiles, world: World) -> Iterator[ScriptedPrometheus]:
    """A server that shows a certificate and demands one."""
    context = files.server_context()
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with ScriptedPrometheus(world.handler, tls=context) as server:
        yield server


async def test_a_private_authority_and_a_client_certificate_towards_prometheus(
    demanding: ScriptedPrometheus, redis: Redis, files: TlsFiles, tmp_path: Path
) -> None:
    more = {
        "prometheus__ca_file": files.authority,
        "prometheus__cert_file": files.client_certificate,
        "prometheus__key_file": files.client_key,
    }
    async with opened(tmp_path, demanding.url, redis.url, **more) as cycle:
        assert (await cycle.poll()).written == 2


async def test_without_the_authority_or_the_client_certificate_nothing_is_asked(
    demanding: ScriptedPrometheus, redis: Redis, files: TlsFiles, tmp_path: Path
) -> None:
    for more in ({}, {"prometheus__ca_file": files.authority}):
        async with opened(tmp_path, demanding.url, redis.url, **more) as cycle:
            with pytest.raises(PrometheusError) as raised:
                await cycle.poll()
        assert raised.value.reason in ("tls", "reset")
    assert demanding.queries == []


# --- towards Redis ------------------------------------------------------------------------------


@pytest.mark.parametrize("from_file", [False, True])
async def test_an_acl_user_with_a_password(
    prometheus: ScriptedPrometheus, tmp_path: Path, from_file: bool
) -> None:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    more: dict[str, Any] = {"redis__username": "poller"}
    more |= {"redis__password_file": path} if from_file else {"redis__password": SECRET}
    with Redis(acl=f"user default off\n{LEAST.format(SECRET)}") as redis:
        url = f"redis://{HOST}:{redis.port}/0"
        async with opened(tmp_path, prometheus.url, url, **more) as cycle:
            assert (await cycle.poll()).written == 2
        assert redis.command("DBSIZE") == 2


@pytest.mark.parametrize("client_certificates", [False, True])
async def test_tls_towards_redis(
    prometheus: ScriptedPrometheus, files: TlsFiles, tmp_path: Path, client_certificates: bool
) -> None:
    more: dict[str, Any] = {"redis__ca_file": files.authority}
    if client_certificates:
        more["redis__cert_file"] = files.client_certificate
        more["redis__key_file"] = files.client_key
    with Redis(tls=files, client_certificates=client_certificates) as redis:
        url = f"rediss://{HOST}:{redis.port}/0"
        async with opened(tmp_path, prometheus.url, url, **more) as cycle:
            assert (await cycle.poll()).written == 2
        async with opened(tmp_path, prometheus.url, url) as cycle:
            with pytest.raises(StoreError):
                await cycle.poll()


async def test_a_certificate_for_another_host_is_refused(
    prometheus: ScriptedPrometheus, tmp_path: Path
) -> None:
    files = tls_files(tmp_path, "redis.elsewhere.test")
    with Redis(tls=files) as redis:
        url = f"rediss://{HOST}:{redis.port}/0"
        more = {"redis__ca_file": files.authority}
        async with opened(tmp_path, prometheus.url, url, **more) as cycle:
            with pytest.raises(StoreError):
                await cycle.poll()


async def test_a_unix_socket(prometheus: ScriptedPrometheus, tmp_path: Path) -> None:
    with Redis(password=SECRET, unix_socket=True) as redis:
        async with opened(tmp_path, prometheus.url, redis.unix_url) as cycle:
            assert (await cycle.poll()).written == 2
        assert redis.socket_path is not None
        assert stat.S_ISSOCK(redis.socket_path.stat().st_mode)


# --- the least rights ---------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Iterator[Redis]:
    with Redis(acl=f"user default off\n{LEAST.format(SECRET)}") as server:
        yield server


def guarded_url(redis: Redis) -> str:
    return f"redis://poller:{SECRET}@{HOST}:{redis.port}/0"


def test_the_readmes_acl_is_enough_for_run_once_check_and_compare(
    prometheus: ScriptedPrometheus, world: World, guarded: Redis, tmp_path: Path
) -> None:
    url = guarded_url(guarded)
    made = tables(prometheus.url, url, 2.0, leader__enabled=True)
    with LivePoller(tmp_path, made) as live:
        live.wait_metric("keys_written_total", 4)
        assert live.stop() == 0
    assert "ERROR" not in live.log
    assert guarded.command("EXISTS", *world.ids) == 2

    env = environment(prometheus.url, url)
    for arguments in (["once"], ["check"], ["compare"], ["show", world.ids[0]]):
        done = poller(*arguments, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
    denied = guarded.command("ACL", "LOG")
    assert {_text(entry, "object") for entry in denied} <= {"info", "scan", "client|setinfo"}


def _text(entry: dict[Any, Any], name: str) -> str:
    value = entry[name] if name in entry else entry[name.encode()]
    return value.decode() if isinstance(value, bytes) else str(value)


@asynccontextmanager
async def leading(
    tmp_path: Path, prometheus: ScriptedPrometheus, guarded: Redis
) -> AsyncIterator[tuple[Cycle, Lease]]:
    """Open a cycle under the README's ACL, and its lease, which is not asked for yet."""
    made = settings(tmp_path, prometheus.url, guarded_url(guarded), leader__enabled=True)
    async with assembly.cycle(made, PATIENT) as cycle:
        lease = assembly.lease(made, cycle.store)
        assert lease is not None
        yield cycle, lease


async def everything(cycle: Cycle, lease: Lease) -> None:
    """Use every command that the poller has."""
    assert await lease.take()
    outcome = await cycle.poll(lease)
    assert (outcome.written, outcome.failed.total()) == (2, 0)
    await lease.holder()
    await cycle.store.ages(list(cycle.history.kernels))
    await lease.release()


async def test_the_readmes_acl_allows_nothing_that_is_not_needed(
    prometheus: ScriptedPrometheus, guarded: Redis, tmp_path: Path
) -> None:
    async with leading(tmp_path, prometheus, guarded) as (cycle, lease):
        await everything(cycle, lease)
        needed = []
        for command in COMMANDS:
            guarded.command("ACL", "SETUSER", "poller", f"-{command}")
            try:
                await everything(cycle, lease)
            except (PollerError, AssertionError):
                needed.append(command)
            guarded.command("ACL", "SETUSER", "poller", f"+{command}")
            lease.forget()
        await everything(cycle, lease)
    assert needed == [command for command in COMMANDS if command not in SPARABLE]


async def test_a_lost_lease_is_told_as_one_under_the_readmes_acl(
    prometheus: ScriptedPrometheus, guarded: Redis, tmp_path: Path
) -> None:
    async with leading(tmp_path, prometheus, guarded) as (cycle, lease):
        assert await lease.take()
        guarded.command("ACL", "LOG", "RESET")
        guarded.command("DEL", lease.name)
        with pytest.raises(LeaseLost):
            await cycle.store.write({"11111111-2222-4333-8444-555555555555": b"x"}, lease.fence)
        await everything(cycle, lease)
    denied = guarded.command("ACL", "LOG")
    assert {_text(entry, "object") for entry in denied} <= {"client|setinfo"}


async def test_the_readmes_acl_keeps_other_owners_keys_out_of_reach(
    prometheus: ScriptedPrometheus, guarded: Redis, tmp_path: Path
) -> None:
    async with opened(tmp_path, prometheus.url, guarded_url(guarded)) as cycle:
        for words in (
            ("GET", "i-agent0"),
            ("SET", "computer.metadata", "x"),
            ("DEL", UUID.replace("?", "0")),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG", "GET", "*"),
        ):
            with pytest.raises(StoreError) as raised:
                await cycle.store.command(*words)
            assert raised.value.reason == "forbidden", words


# --- nothing tells a secret ---------------------------------------------------------------------

SECRETS = {
    name: f"leak-{number}-{name}"
    for number, name in enumerate(
        ("url", "header", "header_file", "basic", "bearer", "redis_url", "redis", "sentinel")
    )
}


def with_secrets(
    directory: Path, prometheus_url: str, redis_url: str, form: str = "basic"
) -> dict[str, dict[str, Any]]:
    """Return settings with every secret that may be in them together; `form`: to authenticate."""
    paths = {}
    for name in ("header_file", "bearer", "redis"):
        paths[name] = directory / f"{name}.secret"
        paths[name].write_text(SECRETS[name])
    redis_file = {"redis__password_file": paths["redis"]}
    basic = {"prometheus__username": "user", "prometheus__password": SECRETS["basic"]}
    forms: dict[str, dict[str, Any]] = {
        "basic": basic | redis_file,
        "bearer": {"prometheus__bearer_token_file": paths["bearer"]} | redis_file,
        "url": {"prometheus__fallback_urls": [f"http://user:{SECRETS['url']}@{HOST}:9"]},
    }
    if form == "url":
        prometheus_url = prometheus_url.replace("://", f"://user:{SECRETS['url']}@")
        redis_url = redis_url.replace("://", f"://user:{SECRETS['redis_url']}@")
    return tables(
        prometheus_url,
        redis_url,
        0.5,
        leader__enabled=True,
        log__level="debug",
        prometheus__headers={"X-One": SECRETS["header"]},
        prometheus__header_files={"X-Two": paths["header_file"]},
        redis__sentinel_password=SECRETS["sentinel"],
        **forms[form],
    )


def check_tells_nothing(*texts: str) -> None:
    for text in texts:
        found = [name for name, secret in SECRETS.items() if secret in text]
        assert not found, text
        assert "Traceback" not in text


def commands(path: Path) -> str:
    """Run every command against these settings; return all they said."""
    told = ""
    for arguments in (["check"], ["once"], ["compare"], ["show", UUID.replace("?", "0")]):
        done = poller("--config", str(path), *arguments, env=environment())
        told += done.stdout + done.stderr
    return told


@pytest.mark.parametrize("form", ["basic", "bearer", "url"])
def test_no_output_tells_a_secret_whoever_refuses_it(
    world: World, tmp_path: Path, form: str
) -> None:
    def refuse(query: str, time: float, params: dict[str, str]) -> Answer:
        return unauthorized()

    with ScriptedPrometheus(refuse) as prometheus, Redis(password="other") as redis:
        made = with_secrets(tmp_path, prometheus.url, f"redis://{HOST}:{redis.port}/0", form)
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("cycles_total", 1, result="failed")
            prometheus.handler = world.handler
            live.wait_line("redis: ")
            pages = [live.page(path)[1] for path in ("/metrics", "/-/ready", "/-/healthy")]
            told = commands(live.path)
            redis.kill()
            live.wait_metric("cycles_total", 1, result="failed", reason="connection")
            live.path.write_text(live.path.read_text().replace("[log]", "[logs]"))
            live.send(signal.SIGHUP)
            live.wait_line("settings: refused")
            assert live.stop() == 0
    check_tells_nothing(live.log, told, *pages)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("redis://user:", "redis://user:/"),
        ("redis://user:", "redys://user:"),
        ("http://user:", "ftp://user:"),
        ("headers = {", "headers = 5 # {"),
        ('password = "', 'password = 7 # "'),
        ("[redis]", "[redis"),
    ],
)
def test_a_refusal_of_settings_tells_no_secret(tmp_path: Path, old: str, new: str) -> None:
    made = with_secrets(tmp_path, f"http://{HOST}:9", f"redis://{HOST}:9/0", "url")
    live = LivePoller(tmp_path, made)
    live.path.write_text(live.path.read_text().replace(old, new))
    done = poller("--config", str(live.path), "run", env=environment())
    assert done.returncode == 2
    assert done.stderr
    check_tells_nothing(done.stdout, done.stderr)


def test_a_variable_that_is_no_json_tells_no_secret() -> None:
    env = environment(prometheus__headers=SECRETS["header"])
    done = poller("check", env=env)
    assert done.returncode == 2
    check_tells_nothing(done.stdout, done.stderr)
