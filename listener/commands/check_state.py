"""What `gpudrop check` says of the state: where it lies, and whether somebody else could write it, or has it."""

from __future__ import annotations

from listener.commands.check_lines import CheckLine, problem_line
from listener.configuration.config import Config
from listener.configuration.state_move import check_former
from listener.configuration.state_place import is_on_server, place_of, was_used
from listener.configuration.store_identity import identity_of
from listener.ledger.owner import check_owner
from listener.ledger.private_folder import check_private
from manifests.errors import GpuDropError


def state_line(config: Config) -> CheckLine:
    """Looks only: nothing is made, moved or opened."""
    if is_on_server(config):
        return CheckLine("state", True, "in PostgreSQL")
    try:
        place = place_of(config)
        check_private(place.folder)
        check_owner(place.folder, identity_of(config, place.folder))
    except GpuDropError as e:
        return problem_line("state", e)
    if place.former is None:
        return CheckLine("state", True, f"{place.folder}, for this user alone")
    if was_used(place.folder):
        detail = f"{place.folder} is used; an earlier version's still lies in {place.former.folder}"
        return CheckLine("state", None, detail, "Remove that one, once nothing else needs it.")
    try:
        check_former(place.former, place.folder)
    except GpuDropError as e:
        return problem_line("state", e)
    detail = f"lies in {place.former.folder}, where an earlier version kept it"
    return CheckLine("state", None, detail, f"`gpudrop run` moves it to {place.folder}.")
