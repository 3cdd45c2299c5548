"""`check --settings`: what counts and where it comes from, without servers and without secrets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from poller import config
from poller.commands import settings_report
from tests.support.command import environment, poller

SECRET = "tr0ub4dor"


def origins(text: str) -> dict[str, str]:
    """Return {dotted key: origin} of a report."""
    found = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif " = " in line:
            key, _, rest = line.partition(" = ")
            found[f"{section}.{key}"] = rest.rpartition("  # ")[2]
    return found


def test_the_report_tells_every_setting_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[redis]\nurl = "redis://u:{SECRET}@redis.example/3"\nkey_prefix = "a:"\n'
        f'[prometheus]\nheaders = {{ X-Token = "{SECRET}" }}\ntimeout_s = "auto"\n'
        f'url = "http://me:{SECRET}@prometheus.example:9090"\n'
        f'params = {{ authKey = "{SECRET}", dedup = "true", nocache = "1" }}\n'
        '[metrics.acme]\nkind = "rate"\n'
    )
    user = {"redis__sentinel_username": "me", "redis__sentinel_password": SECRET}
    env = environment(poll__interval_s=2, **user)
    done = poller("--config", str(path), "check", "--settings", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET not in done.stdout
    told = origins(done.stdout)
    assert told["redis.url"] == told["redis.key_prefix"] == told["prometheus.headers"] == "file"
    assert told["metrics.acme.kind"] == "file"
    assert told["prometheus.timeout_s"] == "file, auto"
    assert told["poll.deadline_s"] == "default, auto"
    assert told["redis.ttl_s"] == "default"
    assert told["poll.interval_s"] == "environment, POLLER_POLL__INTERVAL_S"
    assert told["redis.sentinel_password"] == "environment, POLLER_REDIS__SENTINEL_PASSWORD"
    values = tomllib.loads(done.stdout)  # it reads as the file does
    assert values["poll"]["deadline_s"] == pytest.approx(1.8)
    assert values["redis"]["url"] == "redis://u:(hidden)@redis.example/3"
    assert values["prometheus"]["url"] == "http://me:(hidden)@prometheus.example:9090"
    assert values["redis"]["sentinel_password"] == "(hidden)"
    assert values["prometheus"]["headers"] == {"X-Token": "(hidden)"}
    shown = {"authKey": "(hidden)", "dedup": "true", "nocache": "1"}
    assert values["prometheus"]["params"] == shown
    assert values["redis"]["password"] == ""
    assert done.stdout.startswith(f"# settings: {path}, 4 environment variables\n")


def test_every_setting_that_is_set_is_in_the_report() -> None:
    values = tomllib.loads("\n".join(settings_report.lines(config.read(None))))
    shown = config.Config().model_dump(exclude={"metrics"})
    for section, table in shown.items():
        assert values[section].keys() == {key for key, one in table.items() if one is not None}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"redis://u:a@b/{SECRET}@host:1/0", "redis://u:(hidden)@host:1/0"),
        (f"redis://:{SECRET}@host", "redis://:(hidden)@host"),
        (f"redis+sentinel://u:{SECRET}@a:1,b:2/m/0", "redis+sentinel://u:(hidden)@a:1,b:2/m/0"),
        (
            f"redis://host?db=1&password={SECRET}&x=1",
            "redis://host?db=1&password=(hidden)&x=(hidden)",
        ),
        (f"redis://host?username=u&PASSWORD={SECRET}", "redis://host?username=u&PASSWORD=(hidden)"),
        (f"redis://{SECRET}@host", "redis://(hidden)@host"),
        (f"redis+sentinel://{SECRET}@a:1,b:2/m", "redis+sentinel://(hidden)@a:1,b:2/m"),
        (f"http://{SECRET}@host:9090/x", "http://(hidden)@host:9090/x"),
        (f"HTTPS://{SECRET}@host:9090/x", "HTTPS://(hidden)@host:9090/x"),
        (f"https://host/?authKey={SECRET}", "https://host/?authKey=(hidden)"),
        (f"https://u:{SECRET}@host/x@y", "https://u:(hidden)@y"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
        ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, told: str) -> None:
    assert settings_report.without_password(url) == told


def test_bad_settings_are_told_and_exit_as_ever() -> None:
    done = poller("check", "--settings", env=environment(poll__interval_s=-1))
    assert (done.returncode, done.stdout) == (2, "")
    done = poller("check", "--settings", env={**environment(), "POLLER_REDIS_URL": SECRET})
    assert (done.returncode, done.stdout) == (2, "")
    assert "POLLER_REDIS_URL: no such setting; did you mean POLLER_REDIS__URL?" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("command", [["check"], ["check", "--settings"], ["once"], ["run"]])
def test_an_unreadable_secret_is_named_before_anything_is_said_to_be_good(
    tmp_path: Path, command: list[str]
) -> None:
    rubbish = tmp_path / "password"
    rubbish.write_bytes(b"\xff\xfe")
    several = tmp_path / "passwords"
    several.write_text("one\ntwo\n")
    for path, why in (
        (rubbish, "is not UTF-8"),
        (several, "it holds several lines, and a secret is one"),
        (tmp_path / "none", "No such file or directory"),
    ):
        done = poller(*command, env=environment(redis__password_file=path))
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == f"settings: redis.password_file: {path} cannot be read: {why}\n"


def test_an_option_goes_before_the_environment_and_the_commands_own_before_both(
    tmp_path: Path,
) -> None:
    asked, other = str(tmp_path / "asked.toml"), str(tmp_path / "other.toml")
    for path in (asked, other):
        Path(path).write_text("")
    env = environment() | {"POLLER_CONFIG": other}
    for words, taken in (
        (["--config", asked, "check"], asked),
        (["check", "--config", asked], asked),
        (["--config", other, "check", "--config", asked], asked),
        (["check"], other),
    ):
        done = poller(*words, "--settings", env=env)
        assert done.stdout.startswith(f"# settings: {taken},"), words


def test_every_command_says_which_settings_it_took(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[poll]\ninterval_s = 2\n")
    for command in ("once", "compare", "check"):
        done = poller(command, env=environment("http://127.0.0.1:9"), cwd=tmp_path)
        first = done.stderr.splitlines()[0]
        assert first == f"settings: {tmp_path / 'config.toml'}, 2 environment variables"
