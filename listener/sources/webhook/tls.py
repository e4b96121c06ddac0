"""The receiver's certificate, read again when it is renewed."""

from __future__ import annotations

import ssl
from pathlib import Path

from listener.sources.webhook.settings import ServerTls
from manifests.errors import ConfigError


class Certificate:
    """Reads files: call it on a thread. Connections made after `renew` are shown what the files hold then."""

    def __init__(self, tls: ServerTls) -> None:
        """Raises ConfigError when a file cannot be read or does not hold what it should."""
        self._tls = tls
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stamp = _stamp(tls)
        self._load()
        if tls.client_ca_file:
            try:
                self.context.load_verify_locations(cafile=str(tls.client_ca_file))
            except (OSError, ValueError) as e:
                raise _unreadable(tls.client_ca_file, e, "tls.client_ca_file") from e
            self.context.verify_mode = ssl.CERT_REQUIRED

    def renew(self) -> bool:
        """Whether the files changed and were read. Raises ConfigError when they cannot be; the old ones stay."""
        stamp = _stamp(self._tls)
        if stamp == self._stamp:
            return False
        # A pair that is being replaced does not fit for a moment: what cannot be loaded must not spoil what is shown.
        Certificate(self._tls)
        self._load()
        self._stamp = stamp
        return True

    def _load(self) -> None:
        cert, key = self._tls.cert_file, self._tls.key_file
        try:
            self.context.load_cert_chain(cert, key)
        except (OSError, ValueError) as e:
            raise _unreadable(f"{cert} and {key}", e, "tls") from e


def _stamp(tls: ServerTls) -> tuple[int, int]:
    try:
        return tls.cert_file.stat().st_mtime_ns, tls.key_file.stat().st_mtime_ns
    except OSError as e:
        raise _unreadable(f"{tls.cert_file} and {tls.key_file}", e, "tls") from e


def _unreadable(what: str | Path, e: Exception, where: str) -> ConfigError:
    return ConfigError(
        f"The webhook's certificate cannot be read from {what}: {e}.",
        hint="Give PEM files: the certificate with its chain, and a private key without a passphrase.",
        where=where,
    )
