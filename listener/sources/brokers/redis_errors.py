"""What redis-py raises, told in our errors."""

from __future__ import annotations

from redis import exceptions as vendor

from listener.sources.brokers.troubles import broker_tls_error
from manifests.errors import GpuDropError, ServerMisbehaves, SourceDenied, SourceUnavailable

_MAX_SAID = 200
_USER = "Set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD in the environment as the server knows them."
_REFUSALS: dict[str, tuple[str, str]] = {
    "WRONGTYPE": (
        "it is no list",
        "MinIO's `namespace` format writes a hash, which keeps no history: set format=access and another key there.",
    ),
    "NOAUTH": ("the server wants a password", _USER),
    "WRONGPASS": ("the server does not accept the user or the password", _USER),
    "DENIED": (
        "the server is in protected mode",
        "Give it a password, or let it listen where only this side can reach.",
    ),
    "NOPERM": (
        "the user may not do this",
        "Allow LMOVE, BLMOVE, LREM, LLEN and LRANGE on the key and on KEY:processing to this user (ACL SETUSER).",
    ),
    "OOM": ("the server's memory is used up", "Raise maxmemory: an item cannot be moved while it is exceeded."),
    "MISCONF": ("the server cannot write to its disk and takes no writes", "Mend the disk; see the server's log."),
    "MOVED": ("the server is part of a cluster", "Give a server of its own: clusters are not spoken to."),
    "CROSSSLOT": ("the server is part of a cluster", "Give a server of its own: clusters are not spoken to."),
}
_LATER = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY ", "UNBLOCKED")


def redis_error(error: Exception, place: str) -> GpuDropError:
    """SourceUnavailable passes by itself; for the others somebody has to act. `place` is the list, for messages."""
    head = f"Could not take events from {place}: "
    said = str(error)
    if isinstance(error, vendor.AuthenticationError | vendor.AuthorizationError):
        reason, hint = _REFUSALS["WRONGPASS"]
        return SourceDenied(f"{head}{reason}.", hint=hint)
    if denied := broker_tls_error(place, said):
        return denied
    if isinstance(error, vendor.BusyLoadingError | vendor.ReadOnlyError | vendor.ClusterError):
        return SourceUnavailable(f"{head}{said[:_MAX_SAID]}.", hint="It is tried again.")
    if isinstance(error, vendor.ResponseError):
        return _refused(error, head, said)
    if isinstance(error, vendor.InvalidResponse):
        hint = "Check that host and port in `url` are a Redis server's, and rediss:// where it speaks TLS."
        return ServerMisbehaves(f"{head}the answer is not Redis's.", hint=hint)
    told = said[:_MAX_SAID].rstrip(".") or "no answer in time"
    return SourceUnavailable(f"{head}{told}.", hint="Check that the server runs, and `url`.")


def _refused(error: vendor.ResponseError, head: str, said: str) -> GpuDropError:
    """redis-py takes the word in front off the errors that it knows, so the class tells as well."""
    word = said.partition(" ")[0]
    if isinstance(error, vendor.NoPermissionError):
        word = "NOPERM"
    elif isinstance(error, vendor.OutOfMemoryError):
        word = "OOM"
    if word in _REFUSALS:
        reason, hint = _REFUSALS[word]
        return SourceDenied(f"{head}{reason}.", hint=hint)
    if said.startswith(_LATER):
        return SourceUnavailable(f"{head}{said[:_MAX_SAID]}.", hint="It is tried again.")
    if "unknown command" in said.lower():
        return ServerMisbehaves(f"{head}the server is too old.", hint="It needs LMOVE: Redis 6.2 or newer, or Valkey.")
    return SourceDenied(f"{head}{said[:_MAX_SAID]}.", hint="See the server's log.")
