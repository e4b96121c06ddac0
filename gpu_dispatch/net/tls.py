"""Certificates: whom a connection trusts, and what this side shows of itself. All of it reads files: for threads."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a client."""

    ca_file: Path | None = None
    """Authorities trusted beside the system's."""
    cert_file: Path | None = None
    """What this side shows; it may hold the key as well."""
    key_file: Path | None = None

    @property
    def given(self) -> bool:
        return any((self.ca_file, self.cert_file, self.key_file))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    """Only clients that show a certificate of this authority get a connection."""


def client_context(files: TlsFiles, *, where: str = "tls") -> ssl.SSLContext:
    """Raises ConfigError, about the setting `where`, when one of `files` cannot be used."""
    context = ssl.create_default_context()
    if files.ca_file:
        _trust(context, files.ca_file, where)
    if files.cert_file:
        try:
            # A key with a passphrase would be asked for on the terminal: it counts as unusable instead.
            context.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
        except (OSError, ValueError) as e:
            raise ConfigError(
                f"The certificate {files.cert_file} cannot be used: {e}.",
                hint="Give PEM files that can be read; the key belongs to the certificate and has no passphrase.",
                where=where,
            ) from e
    return context


def ca_context(ca_file: Path | None, *, where: str) -> ssl.SSLContext | None:
    """Trusts the authorities in `ca_file` beside the system's; None where the system's are all. Raises ConfigError."""
    return client_context(TlsFiles(ca_file), where=where) if ca_file else None


def sole_ca_context(ca_file: Path | None, *, where: str) -> ssl.SSLContext | None:
    """Trusts the authorities in `ca_file` and no others; None for the system's. Raises ConfigError."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as e:
        raise _unusable_ca(ca_file, e, where) from e


class ServerCertificate:
    """What a server shows. Connections made after `renew` are shown what the files hold then."""

    def __init__(self, tls: ServerTls) -> None:
        """Raises ConfigError when a file cannot be read or does not hold what it should."""
        self._tls = tls
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stamp = _stamp(tls)
        self._load()
        if tls.client_ca_file:
            _trust(self.context, tls.client_ca_file, "tls.client_ca_file")
            self.context.verify_mode = ssl.CERT_REQUIRED

    def renew(self) -> bool:
        """Whether the files changed and were read. Raises ConfigError when they cannot be; the old ones stay."""
        stamp = _stamp(self._tls)
        if stamp == self._stamp:
            return False
        # A pair that is being replaced does not fit for a moment: what cannot be loaded must not spoil what is shown.
        ServerCertificate(self._tls)
        self._load()
        self._stamp = stamp
        return True

    def _load(self) -> None:
        cert, key = self._tls.cert_file, self._tls.key_file
        try:
            self.context.load_cert_chain(cert, key)
        except (OSError, ValueError) as e:
            raise _unreadable(self._tls, e) from e


def _trust(context: ssl.SSLContext, ca_file: Path, where: str) -> None:
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ValueError) as e:
        raise _unusable_ca(ca_file, e, where) from e


def _unusable_ca(ca_file: Path, e: Exception, where: str) -> ConfigError:
    return ConfigError(f"The certificates in {ca_file} cannot be read: {e}.", hint="Give a PEM file.", where=where)


def _stamp(tls: ServerTls) -> tuple[int, int]:
    try:
        return tls.cert_file.stat().st_mtime_ns, tls.key_file.stat().st_mtime_ns
    except OSError as e:
        raise _unreadable(tls, e) from e


def _unreadable(tls: ServerTls, e: Exception) -> ConfigError:
    return ConfigError(
        f"The server's certificate cannot be read from {tls.cert_file} and {tls.key_file}: {e}.",
        hint="Give PEM files: the certificate with its chain, and a private key without a passphrase.",
        where="tls",
    )
