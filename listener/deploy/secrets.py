"""Recognizes secrets among the variables of a container, and hides them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\s*\{\{\s*RUNPOD_SECRET_\w+\s*\}\}\s*")
_NAMES = re.compile(
    r"(^|_)(KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PWD|CREDENTIALS?|AUTH|DSN|COOKIE|SIGNATURE)(_|\d|$)", re.I
)
_VALUES = re.compile(
    r"^(rpa_|hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|eyJ)"
    r"|://[^/\s@]+:[^/\s@]+@"
    r"|[?&](X-Amz-Signature|X-Amz-Credential|sig|token)="
    r"|-----BEGIN "
)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{32,}")


def is_reference(value: str) -> bool:
    """Whether `value` names one of RunPod's secrets, which RunPod fills in when a worker starts."""
    return bool(_REFERENCE.fullmatch(value))


def looks_secret(name: str, value: str) -> bool:
    if not value or is_reference(value):
        return False
    return bool(_NAMES.search(name) or _VALUES.search(value) or _RANDOM.fullmatch(value))


def shown_value(name: str, value: str) -> str:
    return "(hidden)" if looks_secret(name, value) else value


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """Removes the secret values of `env` that a server's answer may repeat."""
    for name, value in env.items():
        if looks_secret(name, value):
            text = text.replace(value, "(hidden)")
    return text
