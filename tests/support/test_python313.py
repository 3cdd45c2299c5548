from __future__ import annotations

import pytest

from tests.support import python313


@pytest.fixture
def _no_python(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("_no_python")
def test_a_complete_environment_is_used_as_it_is(tmp_path):
    place = tmp_path / "any"
    place.mkdir()
    (place / "requirements").write_text("one\ntwo")
    python = python313.environment("any", "one", "two", folder=tmp_path)
    assert python == place / "bin" / "python"


@pytest.mark.usefixtures("_no_python")
def test_an_environment_of_other_requirements_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("POLLER_TEST_NO_SKIP", "1")
    place = tmp_path / "any"
    place.mkdir()
    (place / "requirements").write_text("one")
    with pytest.raises(pytest.fail.Exception, match=r"no Python 3\.13"):
        python313.environment("any", "two", folder=tmp_path)
    assert not place.exists()
