"""Settings: every key, every refusal with its dotted path."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from poller import config
from poller.errors import ConfigError

ROOT = Path(__file__).parent.parent


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


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
    monkeypatch.setenv("POLLER_METRICS__ACME__STATS", '["max"]')
    loaded = config.load(path)
    assert (loaded.redis.ttl_s, loaded.redis.key_prefix) == (8000, "a:")
    assert loaded.prometheus.headers["X-Scope-OrgID"].get_secret_value() == "tenant"
    assert loaded.prometheus.window == 120.0
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
        ("[prometheus]\nfallback_urls = ['ftp://x']", "prometheus.fallback_urls.0"),
        ("[prometheus]\nheaders = { a = 1 }", "prometheus.headers.a"),
        ("[prometheus]\non_partial = 'ignore'", "prometheus.on_partial"),
        ("[prometheus]\npassword_file = '/no/such/file'", "prometheus.password_file"),
        ("[prometheus]\nrestore_window = '5m'", "prometheus.restore_window"),
        ("[redis]\nurl = 'http://x'", "redis.url"),
        ("[redis]\nttl_s = 14", "redis.ttl_s"),
        ("[redis]\nttl_s = 86400.5", "redis.ttl_s"),
        ("[redis]\nbatch_size = 0", "redis.batch_size"),
        ("[redis]\ntimeout_s = 5", "redis.timeout_s"),
        ("[format]\nprofile = '26.8'", "format.profile"),
        ("[format]\ncapacity = 'none'", "format.capacity"),
        ("[shard]\nindex = 2\ncount = 2", "shard.index"),
        ("[http]\nport = 70000", "http.port"),
        ("[log]\nformat = 'xml'", "log.format"),
        ("[metrics.x]\nkind = 'counter'", "metrics.x.kind"),
        ("[metrics.x]\nunit = 'y'", "metrics.x.unit"),
        ("[metrics.x]\nstats = ['median']", "metrics.x.stats"),
        ("[metrics.version]\nkind = 'gauge'", "metrics.version"),
    ],
)
def test_what_cannot_work_is_refused_with_its_dotted_path(tmp_path, text: str, key: str):
    assert key in refused(tmp_path, text)


def test_every_problem_is_told_at_once(tmp_path):
    keys = refused(tmp_path, "[poll]\nfoo = 1\n[redis]\nttl_s = 'x'\n[http]\nport = -1\n")
    assert keys == ["poll.foo", "redis.ttl_s", "http.port"]


def test_a_variable_of_no_section_is_a_mistake(monkeypatch):
    monkeypatch.setenv("POLLER_PROMETEUS__URL", "http://x")
    with pytest.raises(ConfigError, match="POLLER_PROMETEUS__URL"):
        config.load(None)


def test_a_variable_of_no_key_is_a_mistake(monkeypatch):
    monkeypatch.setenv("POLLER_POLL__INTERVALL_S", "5")
    with pytest.raises(ConfigError, match="poll.intervall_s"):
        config.load(None)


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


def test_the_settings_are_frozen():
    loaded = config.load(None)
    with pytest.raises(ValueError, match="frozen"):
        loaded.poll.interval_s = 3.0
