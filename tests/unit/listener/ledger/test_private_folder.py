"""Who else could write the state: what modes, owners and access lists say, on volumes as on a user's own disk."""

from __future__ import annotations

import os
import pwd
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from listener.ledger.files import check_private, make_private_folder
from manifests.errors import StateError
from support.scripts import ROOT

NOBODY = 65534


@pytest.mark.parametrize(("owner", "group", "safe"), [(0, "own", True), (0, NOBODY, False), (NOBODY, "own", False)])
def test_a_volume_of_roots_is_fine_where_none_but_this_users_group_may_write_it(
    owner: int, group: int | str, safe: bool
) -> None:
    """As a cluster mounts one: it belongs to root and to a group, and the listener runs as another user."""
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    user = pwd.getpwnam("daemon")
    with TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        volume = Path(scratch) / "volume"
        volume.mkdir()
        os.chown(volume, owner, user.pw_gid if group == "own" else NOBODY)
        volume.chmod(0o2775)
        args = [sys.executable, "-c", AS_ANOTHER, str(user.pw_uid), str(user.pw_gid), str(volume)]
        done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is safe, done.stderr
        assert (volume / "lock").exists() is safe
        assert "could replace what lies there" in done.stderr or safe


AS_ANOTHER = """
import os, sys
from pathlib import Path
from listener.ledger.files import make_private_file, make_private_folder
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
make_private_folder(Path(sys.argv[3]))
make_private_file(Path(sys.argv[3]) / "lock")
"""


@pytest.mark.parametrize(
    ("tag", "who", "rights", "safe"),
    [
        (0x02, NOBODY, 7, False),
        (0x08, NOBODY, 7, False),
        (0x02, NOBODY, 5, True),
        (0x02, os.geteuid(), 7, True),
    ],
)
def test_who_is_named_in_an_access_list_counts(tag: int, who: int, rights: int, safe: bool, tmp_path: Path) -> None:
    """As `setfacl -m u:NAME:rwx` leaves it: the mode tells the most that anybody of the list may."""
    above, everyone = tmp_path / "above", 2**32 - 1
    above.mkdir(mode=0o700)
    entries = [
        (0x01, 7, everyone),
        (tag, rights, who),
        (0x04, 7, everyone),
        (0x10, 7, everyone),
        (0x20, 0, everyone),
    ]
    try:
        packed = b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
        os.setxattr(above, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as e:
        pytest.skip(f"no access lists here: {e}")
    if safe:
        check_private(above / "state")
        return
    with pytest.raises(StateError, match="access list"):
        check_private(above / "state")


def test_the_folders_on_the_way_are_made_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask: with that of a shared group the state would be refused where it was just made."""
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b" / "state")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {0o700}
