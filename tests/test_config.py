"""Settings: every key, every refusal with its dotted path."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from poller import config, environment
from poller.errors import ConfigError, UnreadableFile

ROOT = Path(__file__).parent.parent


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def problems(path: Path | None = None) -> list[tuple[str, str]]:
    """Return why the settings of a file, or of the environment alone, cannot work."""
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.status == 2
    return caught.value.problems


def refused(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, text))
    return [key for key, _ in caught.value.problems]


def test_the_shipped_file_holds_every_setting_with_its_default():
    text = (ROOT / "config.toml").read_text()
    shipped = tomllib.loads(text)
    defaults = config.Config().model_dump(mode="json", exclude={"metrics"})
    for section, keys in defaults.items():
        for key, value in keys.items():
            if value is None:  # optional files stand there as comments
                assert re.search(rf"^# {key} = ", text, re.MULTILINE), f"{section}.{key}"
                continue
            given = shipped[section][key]
            if section == "redis" and key == "url":
                assert given == "redis://127.0.0.1:6379/0"
            elif key == "restore_window":
                assert (given, value) == ("1d", 86_400.0)
            elif "password" in key or "token" in key:
                assert (given, value) == ("", "")
            else:
                assert given == value, f"{section}.{key}"
    assert {section: set(keys) - set(defaults[section]) for section, keys in shipped.items()} == {
        section: set() for section in shipped
    }
    assert config.load(ROOT / "config.toml") == config.load(None)


def test_every_setting_is_an_environment_variable_that_goes_before_the_file(tmp_path, monkeypatch):
    path = written(tmp_path, "[redis]\nttl_s = 7000\nkey_prefix = 'a:'\n")
    monkeypatch.setenv("POLLER_REDIS__TTL_S", "8000")
    monkeypatch.setenv("POLLER_PROMETHEUS__HEADERS", '{"X-Scope-OrgID": "tenant"}')
    monkeypatch.setenv("POLLER_PROMETHEUS__WINDOW", "2m")
    monkeypatch.setenv("POLLER_PROMETHEUS__RESTORE_WINDOW", "43200")
    monkeypatch.setenv("POLLER_METRICS__ACME__STATS", '["max"]')
    loaded = config.load(path)
    assert (loaded.redis.ttl_s, loaded.redis.key_prefix) == (8000, "a:")
    assert loaded.prometheus.headers["X-Scope-OrgID"].get_secret_value() == "tenant"
    assert (loaded.prometheus.window, loaded.prometheus.restore_window) == (120.0, 43_200.0)
    assert loaded.catalog()["acme"].stats == ("max",)


def test_a_shorter_interval_alone_shortens_what_depends_on_it(tmp_path):
    loaded = config.load(written(tmp_path, "[poll]\ninterval_s = 1\n"))
    assert loaded.poll.deadline_s == pytest.approx(0.9)
    assert loaded.prometheus.timeout_s < 0.9
    assert loaded.redis.timeout_s < 0.9


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[poll]\ninterval = 5", "poll.interval"),
        ("[pol]\ninterval_s = 5", "pol"),
        ("interval_s = 5", "interval_s"),
        ('[poll]\ninterval_s = "5"', "poll.interval_s"),
        ("[poll]\ninterval_s = true", "poll.interval_s"),
        ("[poll]\ninterval_s = 0", "poll.interval_s"),
        ("[poll]\ninterval_s = -1.0", "poll.interval_s"),
        ("[poll]\ninterval_s = nan", "poll.interval_s"),
        ("[poll]\ninterval_s = inf", "poll.interval_s"),
        ("[poll]\nquery_offset_s = -1", "poll.query_offset_s"),
        ("[poll]\ndeadline_s = 6", "poll.deadline_s"),
        ("[poll]\nstill_after_s = 5", "poll.still_after_s"),
        ("[prometheus]\ntimeout_s = 5", "prometheus.timeout_s"),
        ("[prometheus]\nwindow = '1s'", "prometheus.window"),
        ("[prometheus]\nwindow = 'soon'", "prometheus.window"),
        ("[prometheus]\nwindow = 0", "prometheus.window"),
        ("[prometheus]\nwindow = '30s'\nmeasure_interval_s = 30", "prometheus.window"),
        ("[prometheus]\nurl = 'localhost:9090'", "prometheus.url"),
        ("[prometheus]\nurl = ''", "prometheus.url"),
        ("[prometheus]\nurl = 'http://x/?authKey=a#b'", "prometheus.url"),
        ("[prometheus]\nfallback_urls = ['ftp://x']", "prometheus.fallback_urls.0"),
        ("[prometheus]\nheaders = { a = 1 }", "prometheus.headers.a"),
        ("[prometheus]\non_partial = 'ignore'", "prometheus.on_partial"),
        ("[prometheus]\npassword_file = '/no/such/file'", "prometheus.password_file"),
        ("[prometheus]\nrestore_window = '5m'", "prometheus.restore_window"),
        ("[redis]\nurl = 'http://x'", "redis.url"),
        ("[redis]\nttl_s = 14", "redis.ttl_s"),
        ("[redis]\nttl_s = 86400.5", "redis.ttl_s"),
        ("[redis]\nttl_s = 86400000000", "redis.ttl_s"),  # no server takes it
        ('[redis]\nca_file = "a\\u0000b"', "redis.ca_file"),
        ("[redis]\nbatch_size = 0", "redis.batch_size"),
        ("[redis]\ntimeout_s = 5", "redis.timeout_s"),
        ("[format]\nprofile = '26.8'", "format.profile"),
        ("[format]\ncapacity = 'none'", "format.capacity"),
        ("[shard]\nindex = 2\ncount = 2", "shard.index"),
        ("[http]\nport = 70000", "http.port"),
        ("[http]\nhost = 'a..b'", "http.host"),  # nor any resolver these
        ("[http]\nhost = '.example'", "http.host"),
        (f"[http]\nhost = '{'x' * 64}.example'", "http.host"),
        ("[log]\nformat = 'xml'", "log.format"),
        ("[metrics.x]\nkind = 'counter'", "metrics.x.kind"),
        ("[metrics.x]\nunit = 'y'", "metrics.x.unit"),
        ("[metrics.x]\nstats = ['median']", "metrics.x.stats"),
        ("[metrics.version]\nkind = 'gauge'", "metrics.version"),
    ],
)
def test_what_cannot_work_is_refused_with_its_dotted_path(tmp_path, text: str, key: str):
    assert key in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("redis:6379", "redis://host:port/db"),
        ("redis:hush@h:1", "redis://host:port/db"),
        ("h:6379", "redis+sentinel://host:port,host:port/service/db"),
        ("", "redis://host:port/db"),
        ("unix+cluster://h:1", "unix:///path?db=0"),
        ("redis://", "redis://host:port/db"),
        ("redis://:hush@/0", "redis://host:port/db"),
        ("redis://:hush@a:1,b:2/0", "redis://host:port/db"),
        ("rediss://:6379", "rediss://host:port/db"),
        ("redis://u:hush@h:1/x", "the database must be a number"),
        ("redis://u:hush@h:1/0?db=x", "the database must be a number"),
        ("redis://h:1/0?password=a#hush", "write %23"),
        ("redis+sentinel://a:1/mymaster#hush", "write %23"),
        ("unix:redis.sock", "unix:///path?db=0"),
        ("unix://redis.sock", "unix:///path?db=0"),
        ("unix://u:hush@/", "unix:///path?db=0"),
        ("redis+sentinel://h:1", "redis+sentinel://host:port,host:port/service/db"),
        ("redis+sentinel://:hush@a:1,b:2/", "redis+sentinel://host:port,host:port/service/db"),
        ("redis+sentinel://a:1,/mymaster", "redis+sentinel://host:port,host:port/service/db"),
        ("rediss+cluster://", "rediss+cluster://host:port,host:port"),
        ("redis+cluster://a:1,b:2/3", "redis+cluster://host:port,host:port"),
        ("rediss+cluster://a:1?db=3", "rediss+cluster://host:port,host:port"),
    ],
)
def test_an_address_of_redis_that_is_none_is_refused_with_the_form_it_must_have(
    monkeypatch, url: str, form: str
):
    monkeypatch.setenv("POLLER_REDIS__URL", url)
    ((key, text),) = problems()
    assert key == "redis.url"
    assert form in text
    assert "hush" not in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/3",
        "REDIS://u:p@h:1?db=2",
        "redis://[::1]:6379/0",
        "rediss://:p%2Fq@h:1/0",
        "unix:///run/redis.sock?db=0",
        "unix://:p@/run/redis.sock",
        "redis+sentinel://a:1,b:2/mymaster",
        "rediss+sentinel://u:p@a:1/mymaster/2",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://u:p@a",
    ],
)
def test_every_form_of_an_address_of_redis_is_taken(monkeypatch, url: str):
    monkeypatch.setenv("POLLER_REDIS__URL", url)
    assert config.load(None).redis.url.get_secret_value() == url


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("headers", {"X Y": "hush"}, "holds a name that HTTP does not allow"),
        ("headers", {"X-Ä": "hush"}, "holds a name that HTTP does not allow"),
        ("headers", {"": "hush"}, "holds a name that HTTP does not allow"),
        ("headers", {"hush:": ""}, "holds a name that HTTP does not allow"),
        ("headers", {"X-Y\n": "hush"}, "holds a name that HTTP does not allow"),
        ("headers", {"X-Y": "hush\n"}, "holds a value with a line break"),
        ("headers", {"X-Y": "a\r\nX-Z: hush"}, "holds a value with a line break"),
        ("headers", {"X-Y": "hush\0"}, "holds a value with a line break"),
        ("header_files", {"X Y": "/dev/null"}, "holds a name that HTTP does not allow"),
        ("bearer_token", "hush\nhush", "holds a line break"),
    ],
)
def test_a_header_that_http_does_not_allow_is_refused(monkeypatch, key: str, value, told: str):
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv(f"POLLER_PROMETHEUS__{key.upper()}", text)
    ((named, text),) = problems()
    assert named == f"prometheus.{key}"
    assert text.startswith(told)
    assert "hush" not in text


def test_a_header_that_http_allows_is_taken(monkeypatch):
    headers = {"X-Scope_OrgID.1": "a tenant,\tand ü"}
    monkeypatch.setenv("POLLER_PROMETHEUS__HEADERS", json.dumps(headers))
    assert config.load(None).prometheus.headers.keys() == headers.keys()


@pytest.mark.parametrize(
    ("key", "other", "more"),
    [
        ("prometheus.username", "prometheus.bearer_token", {}),
        ("prometheus.username", "prometheus.bearer_token_file", {}),
        ("prometheus.bearer_token", "prometheus.bearer_token_file", {}),
        ("prometheus.password", "prometheus.password_file", {"PROMETHEUS__USERNAME": "me"}),
        ("redis.password", "redis.password_file", {}),
        ("redis.sentinel_password", "redis.sentinel_password_file", {}),
    ],
)
def test_of_two_credentials_that_exclude_each_other_neither_is_preferred(
    monkeypatch, tmp_path, key: str, other: str, more: dict[str, str]
):
    secret = written(tmp_path, "")
    for name in (key, other):
        value = str(secret) if name.endswith("_file") else "hush"
        monkeypatch.setenv(environment.variable(*name.split(".")), value)
    for name, value in more.items():
        monkeypatch.setenv(f"POLLER_{name}", value)
    assert problems() == [(key, f"cannot go together with {other}; take one of them out")]


@pytest.mark.parametrize(
    ("more", "key", "why"),
    [
        (
            {"HEADERS": '{"authorization": "x"}', "BEARER_TOKEN": "hush"},
            "prometheus.headers",
            "holds Authorization, which cannot go together with prometheus.bearer_token",
        ),
        (
            {"HEADER_FILES": '{"Authorization": "FILE"}', "USERNAME": "me"},
            "prometheus.header_files",
            "holds Authorization, which cannot go together with prometheus.username",
        ),
        (
            {"HEADERS": '{"X-Scope-OrgID": "x"}', "HEADER_FILES": '{"x-scope-orgid": "FILE"}'},
            "prometheus.header_files",
            "holds x-scope-orgid, as prometheus.headers does",
        ),
        (
            {"HEADERS": '{"X-Scope-OrgID": "x", "x-scope-orgid": "y"}'},
            "prometheus.headers",
            "holds a header twice",
        ),
    ],
)
def test_of_two_headers_of_one_name_neither_is_preferred(
    monkeypatch, tmp_path, more: dict[str, str], key: str, why: str
):
    secret = written(tmp_path, "")
    for name, value in more.items():
        monkeypatch.setenv(f"POLLER_PROMETHEUS__{name}", value.replace("FILE", str(secret)))
    assert problems() == [(key, f"{why}; take one of them out")]


@pytest.mark.parametrize("url", ["http://xn--:9090", "http://a..b:9090", f"http://{'a' * 64}:9090"])
def test_a_host_that_cannot_be_is_refused(monkeypatch, url: str):
    monkeypatch.setenv("POLLER_PROMETHEUS__URL", url)
    assert problems() == [("prometheus.url", "must be http://host:port or https://host:port")]


@pytest.mark.parametrize("key", ["password", "password_file"])
def test_a_password_for_prometheus_needs_a_user_and_one_for_redis_does_not(
    monkeypatch, tmp_path, key: str
):
    value = str(written(tmp_path, ""))
    monkeypatch.setenv(f"POLLER_REDIS__{key.upper()}", value)
    monkeypatch.setenv(f"POLLER_REDIS__SENTINEL_{key.upper()}", value)
    config.load(None)
    monkeypatch.setenv(f"POLLER_PROMETHEUS__{key.upper()}", value)
    assert problems() == [(f"prometheus.{key}", "needs prometheus.username, which is empty")]
    monkeypatch.setenv("POLLER_PROMETHEUS__USERNAME", "me")
    config.load(None)


@pytest.mark.parametrize("user", ["username", "sentinel_username"])
def test_a_user_of_redis_is_told_with_a_password_only(monkeypatch, user: str):
    monkeypatch.setenv(f"POLLER_REDIS__{user.upper()}", "me")
    password = f"redis.{user.replace('username', 'password')}"
    told = f"needs {password} or {password}_file, which are empty"
    assert problems() == [(f"redis.{user}", told)]
    monkeypatch.setenv(f"POLLER_REDIS__{user.upper().replace('USERNAME', 'PASSWORD')}", "secret")
    config.load(None)


@pytest.mark.parametrize("section", ["prometheus", "redis"])
def test_a_key_needs_its_certificate(monkeypatch, tmp_path, section: str):
    key = str(written(tmp_path, "a key"))
    monkeypatch.setenv(environment.variable(section, "key_file"), key)
    assert problems() == [(f"{section}.key_file", f"needs {section}.cert_file, which is empty")]
    monkeypatch.setenv(environment.variable(section, "cert_file"), key)
    config.load(None)


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_not_every_interface(monkeypatch, host: str):
    monkeypatch.setenv("POLLER_HTTP__HOST", host)
    ((key, text),) = problems()
    assert key == "http.host"
    assert text == "is empty, which would be every interface; say 0.0.0.0 or :: if that is meant"


@pytest.mark.parametrize(
    ("url", "more", "others"),
    [
        ("redis://u:hush@h:1", {"password": "hush"}, "redis.password"),
        ("redis://u@h:1", {"password_file": "F"}, "redis.password_file"),
        ("redis://:hush@h:1", {"username": "me", "password_file": "F"},
         "redis.username and redis.password_file"),
        ("unix:///run/r.sock?username=u&password=hush", {"password": "hush"}, "redis.password"),
        ("redis+sentinel://u:hush@a:1,b:2/m", {"password": "hush"}, "redis.password"),
        ("http://u:hush@h:1", {"username": "me", "password": "hush"},
         "prometheus.username and prometheus.password"),
        ("https://u:hush@h:1", {"bearer_token_file": "F"}, "prometheus.bearer_token_file"),
        ("https://hush@h:1", {"bearer_token": "hush"}, "prometheus.bearer_token"),
    ],
)  # fmt: skip
def test_credentials_in_a_url_are_refused_beside_those_of_the_settings(
    monkeypatch, tmp_path, url: str, more: dict[str, str], others: str
):
    section = others.partition(".")[0]
    monkeypatch.setenv(environment.variable(section, "url"), url)
    config.load(None)
    for key, value in more.items():
        given = str(written(tmp_path, "hush")) if value == "F" else value
        monkeypatch.setenv(environment.variable(section, key), given)
    told = f"its user or password cannot go together with {others}; take one of them out"
    assert problems() == [(f"{section}.url", told)]


def test_credentials_in_the_url_of_a_fallback_are_refused_too(tmp_path):
    text = "[prometheus]\nfallback_urls = ['http://a:1', 'http://u:p@b:1']\nbearer_token = 'x'\n"
    assert refused(tmp_path, text) == ["prometheus.fallback_urls.1"]


def test_every_problem_is_told_at_once(tmp_path):
    keys = refused(tmp_path, "[poll]\nfoo = 1\n[redis]\nttl_s = 'x'\n[http]\nport = -1\n")
    assert keys == ["poll.foo", "redis.ttl_s", "http.port"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("POLLER_POLL__INTERVALL_S", "did you mean POLLER_POLL__INTERVAL_S?"),
        ("POLLER_REDIS_URL", "did you mean POLLER_REDIS__URL?"),
        ("poller_redis_url", "did you mean POLLER_REDIS__URL?"),
        ("POLLER_PROMETEUS__URL", "did you mean POLLER_PROMETHEUS__URL?"),
        ("POLLER_CONFG", "did you mean POLLER_CONFIG?"),
        ("POLLER_METRICS__ACME__STAT", "did you mean POLLER_METRICS__ACME__STATS?"),
        ("POLLER_FOO", "see config.toml"),
        ("POLLER_", "see config.toml"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_that_there_is(monkeypatch, name, told):
    monkeypatch.setenv(name, "5")
    ((key, text),) = problems()
    assert key == name
    assert text.startswith("no such setting; ")
    assert text.endswith(told) or "config.toml" in told


@pytest.mark.parametrize("name", ["POLLER_METRICS_STATS", "POLLER_METRIC_KIND"])
def test_no_setting_of_a_metric_without_a_name_is_suggested(monkeypatch, name: str):
    monkeypatch.setenv(name, "5")
    ((_, text),) = problems()
    assert "POLLER_METRICS__" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLLER_CONFIG", "/no/such/file"),
        ("POLLER_TEST_NO_SKIP", "1"),
        ("POLLER_TEST_REDIS_BINARY", "x"),
        ("poller_redis__ttl_s", "7000"),
        ("POLLER_REDIS", '{"ttl_s": 7000}'),
        ("POLLER_PROMETHEUS__HEADERS__X_SCOPE", "tenant"),
        ("POLLER_METRICS__ACME__UNIT_HINT", "celsius"),
        ("POLLER_METRICS", '{"acme": {"kind": "gauge"}}'),
    ],
)
def test_a_variable_that_there_is_is_taken(monkeypatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    config.load(None)


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("POLLER_PROMETHEUS__FALLBACK_URLS", "http://hush,http://b", '["http://b.example:9090"'),
        ("poller_prometheus__fallback_urls", "http://hush", '["http://b.example:9090"'),
        ("POLLER_PROMETHEUS__HEADERS", "X-A: hush", '{"X-Scope-OrgID": "tenant"}'),
        ("POLLER_PROMETHEUS__HEADER_FILES", "/hush", '{"X-Token": '),
        ("POLLER_PROMETHEUS__PARAMS", "", '{"dedup": "true"}'),
        ("POLLER_REDIS", "hush", '{"key": "value"}'),
        ("POLLER_METRICS", "hush", '{"acme": {"kind": "gauge"}}'),
        ("POLLER_METRICS__ACME", "hush", '{"kind": "gauge"}'),
        ("POLLER_METRICS__ACME__STATS", "hush", '["max", "avg"]'),
    ],
)
def test_a_variable_that_must_be_json_is_named_with_an_example(
    monkeypatch, name: str, value: str, example: str
):
    monkeypatch.setenv(name, value)
    ((key, text),) = problems()
    assert key == name
    assert text.startswith(f"a list or table must be JSON, for example {name}='{example}")
    assert "hush" not in text
    (shown,) = re.findall("'(.*)'$", text)
    assert environment.not_json({name: shown}) == []


def test_every_list_and_table_is_known_to_be_json():
    for section, keys in config.Config().model_dump().items():
        for key, value in keys.items():
            if isinstance(value, dict | tuple | list):
                name = environment.variable(section, key)
                assert environment.not_json({name: "x,y"}), name


def test_a_misspelt_key_of_the_file_is_refused_with_the_nearest_that_there_is(tmp_path):
    text = (
        "[poll]\ninterval = 5\n[promteheus]\nurl = 'x'\n[metrics.acme]\nstat = ['max']\n"
        "[metric]\nstats = ['max']\n"
    )
    path = written(tmp_path, text)
    assert problems(path) == [
        ("poll.interval", "no such setting; did you mean poll.interval_s?"),
        ("metrics.acme.stat", "no such setting; did you mean metrics.acme.stats?"),
        ("promteheus", "no such setting; did you mean prometheus?"),
        ("metric", "no such setting; did you mean metrics?"),
    ]


def test_the_settings_are_looked_for_in_the_usual_places(tmp_path, monkeypatch):
    here, there = tmp_path / "here.toml", tmp_path / "there.toml"
    monkeypatch.setattr(config, "PLACES", (here, there))
    assert config.locate(None) is None
    there.write_text("")
    assert config.locate(None) == there
    here.write_text("")
    assert config.locate(None) == here
    assert config.locate(tmp_path / "asked.toml") == tmp_path / "asked.toml"
    here.unlink()
    here.mkdir()  # something is there and cannot be read: not to be passed over in silence
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(config.locate(None))


def test_it_is_told_where_the_settings_come_from(tmp_path, monkeypatch):
    assert str(config.read(None)) == "no file, the defaults"
    monkeypatch.setenv("POLLER_REDIS__TTL_S", "8000")
    path = written(tmp_path, "")
    assert str(config.read(path)) == f"{path}, 1 environment variable"


def test_a_file_that_cannot_be_read_is_named_and_may_come_later(tmp_path):
    missing, folder = tmp_path / "none", tmp_path / "folder"
    folder.mkdir()
    text = f"[redis]\npassword_file = '{missing}'\n[prometheus]\nca_file = '{folder}'\n"
    with pytest.raises(UnreadableFile) as caught:
        config.load(written(tmp_path, text))
    assert caught.value.status == 3
    assert sorted(caught.value.problems) == [
        ("prometheus.ca_file", f"{folder} cannot be read: Is a directory"),
        ("redis.password_file", f"{missing} cannot be read: No such file or directory"),
    ]
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, text + "window = '1s'\n"))
    assert caught.value.status == 2  # another start would not help


def test_a_file_of_a_relative_path_is_named_with_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFile) as caught:
        config.load(written(tmp_path, "[redis]\npassword_file = 'secret'\n"))
    ((_, text),) = caught.value.problems
    assert text == f"{tmp_path / 'secret'} cannot be read: No such file or directory"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[redis]\nttl_s = 7000\n")
    assert config.load(path).redis.ttl_s == 7000


@pytest.mark.parametrize("key", ["poll.deadline_s", "prometheus.timeout_s", "redis.timeout_s"])
@pytest.mark.parametrize("value", ["2s", "-1", "0", "nan"])
def test_what_is_neither_auto_nor_seconds_is_told_in_one_line(
    tmp_path, monkeypatch, key: str, value: str
):
    section, _, name = key.partition(".")
    told = [(key, 'must be "auto" or a number of seconds above 0')]
    given = f"'{value}'" if value == "2s" else value
    assert problems(written(tmp_path, f"[{section}]\n{name} = {given}\n")) == told
    monkeypatch.setenv(environment.variable(section, name), value)
    assert problems() == told


@pytest.mark.parametrize("text", ["[poll", "a = ", "\x00"])
def test_what_is_no_toml_is_refused(tmp_path, text: str):
    with pytest.raises(ConfigError, match="is not TOML"):
        config.load(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "none.toml")


def test_no_refusal_repeats_a_value(tmp_path):
    secret = "tr0ub4dor"
    with pytest.raises(ConfigError) as caught:
        config.load(
            written(
                tmp_path,
                f"[redis]\nurl = 'http://u:{secret}@x'\nttl_s = '{secret}'\n"
                f"[prometheus]\nurl = 'x:{secret}'\npassword = 5\n",
            )
        )
    assert secret not in str(caught.value)


def test_what_changed_is_told_by_its_keys_alone(tmp_path):
    before = config.load(None)
    text = "[redis]\npassword = 'x'\n[poll]\nquery_offset_s = 1.0\n[metrics.a]\nkind = 'rate'\n"
    after = config.load(written(tmp_path, text))
    assert config.changed(before, after) == ["poll.query_offset_s", "redis.password", "metrics.a"]
    assert config.changed(after, after) == []


def test_the_settings_are_frozen():
    loaded = config.load(None)
    with pytest.raises(ValueError, match="frozen"):
        loaded.poll.interval_s = 3.0
