"""What keeps a broker from being listened to, in words, and whether waiting helps."""

from __future__ import annotations

import re

from gpu_dispatch.net.tls import tls_failure
from manifests.errors import GpuDropError, SourceDenied, SourceUnavailable

LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, and what this user may do on the broker."

_ALERT = re.compile(r"alert[ _]handshake[ _]failure", re.IGNORECASE)
"""Said by a broker of itself; any other broken handshake may be a broker that is just starting."""


def broker_denied(place: str, said: object, hint: str = LOGIN_HINT) -> SourceDenied:
    return SourceDenied(f"{place} does not let us in: {_plain(said)}.", hint=hint)


def broker_unavailable(place: str, said: object) -> SourceUnavailable:
    # One that wants TLS, or a certificate, may just hang up.
    return SourceUnavailable(
        f"{place} is out of reach: {_plain(said)}.",
        hint="Check that it runs, its address in config.yaml, and whether it wants TLS or a certificate of this side"
        " (`tls.cert_file`). It is tried again by itself.",
    )


def broker_broken(place: str, error: BaseException) -> GpuDropError:
    """For what breaks a connection or keeps it from being made. A certificate does not become better by waiting."""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))
    return broker_tls_error(place, said) or broker_unavailable(place, said)


def broker_tls_error(place: str, said: str) -> SourceDenied | None:
    """What was said about TLS by OpenSSL, whose words every client passes on; None when it is about something else."""
    failure = tls_failure(said, ca_setting="`tls.ca_file`", key_setting="`tls.cert_file` and `tls.key_file`")
    if failure is None or (not failure.lasting and not _ALERT.search(said)):
        return None
    hint = "Correct the port, or ask for a connection without TLS." if failure.problem == "plain_http" else failure.hint
    return SourceDenied(f"{place} cannot be used: {failure.reason}.", hint=hint)


def _plain(said: object) -> str:
    return (str(said) or repr(said)).strip().rstrip(".")
