"""Settings into parts: which file of TLS cannot be loaded, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from poller import config, environment
from poller.errors import UnreadableFile
from poller.poll import assembly
from tests.support.tls import TlsFiles, tls_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return tls_files(tmp_path_factory.mktemp("tls"))


def check(section: str, **paths: Path) -> None:
    """Check the settings with these files in one section."""
    variables = {environment.variable(section, key): str(path) for key, path in paths.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        assembly.check(config.load(None))


def refused(section: str, **paths: Path) -> tuple[str, str]:
    """Return the one problem of settings with these files."""
    with pytest.raises(UnreadableFile) as caught:
        check(section, **paths)
    assert caught.value.status == 3
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("section", ["prometheus", "redis"])
@pytest.mark.parametrize("held", ["", "no certificate\n"])
def test_an_authority_that_is_none_is_named_by_key_and_path(
    tmp_path: Path, section: str, held: str
):
    path = tmp_path / "ca.pem"
    path.write_text(held)
    told = f"{path} cannot be loaded: it holds no certificate in PEM form"
    assert refused(section, ca_file=path) == (f"{section}.ca_file", told)


@pytest.mark.parametrize("section", ["prometheus", "redis"])
def test_of_a_certificate_and_its_key_it_is_told_which_is_wrong(
    tmp_path: Path, files: TlsFiles, section: str
):
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    certificate, key, other = files.client_certificate, files.client_key, files.key
    assert refused(section, cert_file=rubbish, key_file=key) == (
        f"{section}.cert_file",
        f"{rubbish} cannot be loaded: it holds no certificate in PEM form",
    )
    assert refused(section, cert_file=certificate, key_file=rubbish) == (
        f"{section}.key_file",
        f"{rubbish} cannot be loaded: it holds no key in PEM form",
    )
    assert refused(section, cert_file=certificate, key_file=other) == (
        f"{section}.key_file",
        f"{other} cannot be loaded: it is not the key of {certificate}",
    )
    assert refused(section, cert_file=certificate) == (
        f"{section}.cert_file",
        f"{certificate} cannot be loaded: it holds no key in PEM form",
    )


@pytest.mark.parametrize("section", ["prometheus", "redis"])
def test_an_authority_and_a_certificate_with_its_key_are_taken(files: TlsFiles, section: str):
    paths = {
        "ca_file": files.authority,
        "cert_file": files.client_certificate,
        "key_file": files.client_key,
    }
    check(section, **paths)
