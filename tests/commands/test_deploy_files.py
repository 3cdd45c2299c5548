"""`deploy-files`: what is shipped, copied to where it is used."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from poller.commands import deploy_files
from tests.support.command import DEPLOY, ROOT, environment, poller

SHIPPED = {path.name: path.read_bytes() for path in DEPLOY.iterdir() if path.is_file()}
SHIPPED |= {name: (ROOT / name).read_bytes() for name in ("config.toml", "README.md")}


def held(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_deploy_files_copies_everything_and_says_what_comes_next(tmp_path: Path) -> None:
    target = tmp_path / "new" / "place"
    done = poller("deploy-files", str(target), env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert held(target) == SHIPPED
    lines = done.stdout.splitlines()
    assert {line.split(" ")[0] for line in lines[::2]} == {str(target / name) for name in SHIPPED}
    assert all(line.startswith("    ") and len(line) > 20 for line in lines[1::2])


def test_the_units_user_may_read_what_was_made_under_a_strict_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        deploy_files.copy(tmp_path / "etc")
    finally:
        os.umask(before)
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "etc").iterdir()}
    assert modes == {0o644}


def test_deploy_files_refuses_to_overwrite_and_then_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text("groups: []\n")
    done = poller("deploy-files", str(tmp_path), env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'alerts.yml'}: is there and differs" in done.stderr
    assert "--force" in done.stderr
    assert held(tmp_path) == {"alerts.yml": b"groups: []\n"}


def test_deploy_files_overwrites_by_force_and_leaves_what_is_equal(tmp_path: Path) -> None:
    assert poller("deploy-files", str(tmp_path), env=environment()).returncode == 0
    (tmp_path / "alerts.yml").write_text("groups: []\n")
    (tmp_path / "mine.txt").write_text("mine")
    done = poller("deploy-files", "--force", str(tmp_path), env=environment())
    assert done.returncode == 0
    assert held(tmp_path) == {**SHIPPED, "mine.txt": b"mine"}
    written = [line for line in done.stdout.splitlines() if line.endswith("(written)")]
    assert written == [f"{tmp_path / 'alerts.yml'} (written)"]


def test_deploy_files_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        assert poller("deploy-files", str(tmp_path), env=environment()).returncode == 0


def test_deploy_files_says_why_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = poller("deploy-files", str(tmp_path / "file" / "below"), env=environment())
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr


def test_deploy_files_that_cannot_write_all_of_a_file_leaves_no_part_of_it(tmp_path: Path) -> None:
    limited = 'ulimit -f 1; exec "$0" -B -m poller deploy-files "$1"'  # as on a full disk
    done = subprocess.run(
        ["sh", "-c", limited, sys.executable, str(tmp_path)],
        env=environment(), cwd="/", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    told = f"{tmp_path / 'config.toml'}: {os.strerror(errno.EFBIG)}\n"
    assert (done.returncode, done.stderr) == (2, told)
    assert held(tmp_path) == {}


def test_deploy_files_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "alerts.yml").write_text("groups: []\n")
    (tmp_path / "alerts.yml").symlink_to("kept/alerts.yml")
    deploy_files.copy(tmp_path, force=True)
    assert (tmp_path / "alerts.yml").is_symlink()
    assert held(tmp_path / "kept") == {"alerts.yml": SHIPPED["alerts.yml"]}


def test_nothing_is_to_be_copied_onto_itself(tmp_path: Path, monkeypatch) -> None:
    assert "copy it to /etc/livestat-poller/" in deploy_files.steps(tmp_path)["config.toml"]
    monkeypatch.setattr(deploy_files, "PLACE", tmp_path)
    for name, step in deploy_files.steps(tmp_path).items():
        assert str(tmp_path) not in step, name
        assert "{" not in step


def test_settings_that_were_changed_are_never_overwritten(tmp_path: Path) -> None:
    mine = {"config.toml": b"[poll]\ninterval_s = 2\n", "environment": b"A=1\n"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    for more in ([], ["--force"]):
        done = poller("deploy-files", *more, str(tmp_path), env=environment())
        assert done.returncode == 0, done.stderr
        assert held(tmp_path) == {**SHIPPED, **mine}
