"""TLS towards a broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `ca_file`: authorities trusted beside the system's; `cert_file`, `key_file`: what this side shows."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def given(self) -> bool:
        return any((self.ca_file, self.cert_file, self.key_file))


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Reads files: call it on a thread. Raises ConfigError when one of them cannot be used."""
    context = ssl.create_default_context()
    try:
        if files.ca_file:
            context.load_verify_locations(files.ca_file)
        if files.cert_file:
            # A key with a passphrase would be asked for on the terminal: it counts as unusable instead.
            context.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
    except OSError as e:
        raise ConfigError(
            f"The TLS files of a source cannot be used: {e}.",
            hint="Give PEM files that can be read; the key belongs to the certificate and has no passphrase.",
            where="tls",
        ) from e
    return context
