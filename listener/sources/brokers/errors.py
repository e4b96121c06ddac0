"""Errors of brokers, and whether waiting helps."""

from __future__ import annotations

import re

from gpu_dispatch.net.tls import tls_failure
from manifests.errors import GpuDropError, SourceDenied, SourceUnavailable

LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, and what this user may do on the broker."

_ALERT = re.compile(r"alert[ _]handshake[ _]failure", re.IGNORECASE)
"""Sent by a running broker; any other broken handshake may come from a broker that is just starting."""


def broker_denied(place: str, said: object, hint: str = LOGIN_HINT) -> SourceDenied:
    return SourceDenied(f"{place} does not let us in: {_plain(said)}.", hint=hint)


def broker_unavailable(place: str, said: object) -> SourceUnavailable:
    # A broker that wants TLS or a certificate may close the connection without a word.
    return SourceUnavailable(
        f"{place} is out of reach: {_plain(said)}.",
        hint="Check that it runs, its address in config.yaml, and whether it wants TLS or a certificate of this side"
        " (`tls.cert_file`). It is tried again by itself.",
    )


def broker_broken(place: str, error: BaseException) -> GpuDropError:
    """Translates what breaks or prevents a connection; an error of a certificate is not retryable."""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))
    return broker_tls_error(place, said) or broker_unavailable(place, said)


def broker_tls_error(place: str, said: str) -> SourceDenied | None:
    """Translates OpenSSL's words, which every client passes on; None when `said` is not about TLS."""
    failure = tls_failure(said, ca_setting="`tls.ca_file`", key_setting="`tls.cert_file` and `tls.key_file`")
    if failure is None or (not failure.lasting and not _ALERT.search(said)):
        return None
    hint = "Correct the port, or ask for a connection without TLS." if failure.problem == "plain_http" else failure.hint
    return SourceDenied(f"{place} cannot be used: {failure.reason}.", hint=hint)


def _plain(said: object) -> str:
    return (str(said) or repr(said)).strip().rstrip(".")
