"""The rights of the README's ACL user."""

from __future__ import annotations

UUID = "????????-????-????-????-????????????"
LEAST = (
    f"user poller on >{{}} resetkeys ~{UUID} ~livestat-poller:* resetchannels -@all"
    " +get +set +pttl +time +eval +watch +multi +exec"
)
"""The README's: `+info` may be added, so that `check` can tell the version."""
