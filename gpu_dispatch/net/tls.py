"""TLS: contexts and certificates of clients and servers, read from files (call it on a thread), and TLS failures."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manifests.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a client."""

    ca_file: Path | None = None
    """Authorities that are trusted beside the system's."""
    cert_file: Path | None = None
    """The certificate of this side; the file may hold the key as well."""
    key_file: Path | None = None

    @property
    def given(self) -> bool:
        return any((self.ca_file, self.cert_file, self.key_file))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The PEM files of a server."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    """Only clients with a certificate of this authority may connect."""


def client_context(files: TlsFiles, *, where: str = "tls") -> ssl.SSLContext:
    """Returns a client's context. Raises ConfigError, about the setting `where`, when one of `files` cannot be used."""
    context = ssl.create_default_context()
    if files.ca_file:
        _trust(context, files.ca_file, where)
    if files.cert_file:
        try:
            # OpenSSL would ask for a key's passphrase on the terminal: such a key counts as unusable.
            context.load_cert_chain(files.cert_file, files.key_file, password=lambda: "")
        except (OSError, ValueError) as e:
            raise ConfigError(
                f"The certificate {files.cert_file} cannot be used: {e}.",
                hint="Give PEM files that can be read; the key belongs to the certificate and has no passphrase.",
                where=where,
            ) from e
    return context


def ca_context(ca_file: Path | None, *, where: str) -> ssl.SSLContext | None:
    """Returns a context that also trusts the authorities in `ca_file`; None without a file. Raises ConfigError."""
    return client_context(TlsFiles(ca_file), where=where) if ca_file else None


def sole_ca_context(ca_file: Path | None, *, where: str) -> ssl.SSLContext | None:
    """Returns a context that trusts only the authorities in `ca_file`; None without a file. Raises ConfigError."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as e:
        raise _unusable_ca(ca_file, e, where) from e


class ServerCertificate:
    """A server's certificate. Connections made after `renew` get what the files hold then."""

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
        """Reads the files if they have changed; returns whether. Raises ConfigError if unusable; the old ones stay."""
        stamp = _stamp(self._tls)
        if stamp == self._stamp:
            return False
        # A pair that is being replaced does not match for a moment: a trial load keeps it out of the live context.
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


TlsProblem = Literal[
    "plain_http", "https_expected", "untrusted", "expired", "wrong_host", "client_certificate", "handshake"
]


@dataclass(frozen=True, slots=True)
class TlsFailure:
    problem: TlsProblem
    reason: str
    """Completes "PLACE cannot be used: …"."""
    hint: str

    @property
    def lasting(self) -> bool:
        """Whether a retry cannot help until somebody acts."""
        return self.problem != "handshake"


_VERIFY = re.compile(r"certificate verify failed(?:: ((?:(?!, verify that)[^(\n])*))?", re.IGNORECASE)
_UNWELCOME = re.compile(
    r"alert[ _]((?:[a-z0-9]+[ _]){0,4}certificate(?:[ _][a-z0-9]+){0,4}|unknown[ _]ca)\b"
    r"|AlertReceived\(\s*(\w*Certificate\w*|UnknownCA|AccessDenied)",
    re.IGNORECASE,
)
_SIGNS: dict[TlsProblem, str] = {
    "https_expected": r"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|SSL: HTTP_REQUEST",
    "plain_http": r"wrong[ _]version[ _]number|record[ _]layer[ _]failure|packet[ _]length[ _]too[ _]long"
    r"|InvalidMessage\(\s*InvalidContentType|PLAINTEXT broker listener",
    "expired": r"certificate (?:has expired|is not yet valid)|\b(?:Expired|NotValidYet)(?:Context\b|,|\))",
    "wrong_host": r"(?:Hostname|IP address) mismatch|doesn't match|\bNotValidForName",
    "untrusted": r"certificate[ _]verify[ _]failed|InvalidCertificate\(|self[- ]signed certificate|UnknownIssuer",
    "handshake": r"\[SSL\b|handshake|(?:AlertReceived|PeerIncompatible|PeerMisbehaved|InvalidMessage)\("
    r"|unsupported[ _]protocol|no[ _]protocols[ _]available",
}
"""Matched in this order: an error of an earlier problem may hold the words of a later one, too.

The searched text is untrusted: no pattern may take more than linear time.
"""
_PATTERNS: dict[TlsProblem, re.Pattern[str]] = {
    problem: re.compile(sign, re.IGNORECASE) for problem, sign in _SIGNS.items()
}


def tls_failure(said: str, *, ca_setting: str = "", key_setting: str = "") -> TlsFailure | None:
    """Returns the TLS failure that `said`, the text of a client's error, reports; None when it reports something else.

    `ca_setting` names the setting for a private authority, `key_setting` those for a certificate of this side.
    """
    if found := _UNWELCOME.search(said):
        what = (found[1] or found[2]).replace("_", " ").lower()
        hint = f"Set {key_setting} to a certificate of an authority that it trusts." if key_setting else _NO_CLIENT
        return TlsFailure("client_certificate", f"it does not take this side's certificate ({what})", hint)
    for problem, pattern in _PATTERNS.items():
        if pattern.search(said):
            return _failure(problem, said, ca_setting)
    return None


def _failure(problem: TlsProblem, said: str, ca_setting: str) -> TlsFailure:
    reason, hint = _WORDS[problem]
    if problem == "untrusted":
        found = _VERIFY.search(said)
        why = (found[1] or "").strip().rstrip(".") if found else ""
        reason = f"{reason}: {why or 'its authority is not known here'}"
        if ca_setting:
            hint = f"Set {ca_setting} to the certificate of the authority that signed it (PEM)."
    return TlsFailure(problem, reason, hint)


_NO_CLIENT = "It asks for a certificate of this side, which is not supported here: use another address."
_WORDS: dict[TlsProblem, tuple[str, str]] = {
    "plain_http": ("it does not speak TLS at this port", "Write http:// instead of https://, or correct the port."),
    "https_expected": ("it speaks TLS only", "Write https:// instead of http://, or correct the port."),
    "untrusted": (
        "its certificate is not trusted",
        "Give the server a certificate of a known authority, or use another address.",
    ),
    "expired": (
        "its certificate is not valid at this time",
        "Renew the server's certificate; check this machine's clock and the server's.",
    ),
    "wrong_host": (
        "its certificate is for another host",
        "Use a host name that stands in the certificate, or have one made for this name.",
    ),
    "handshake": (
        "the TLS handshake failed",
        "Check that the server speaks TLS 1.2 or 1.3 at this port, and what stands between.",
    ),
}
