"""What only a folder can do wrong: links, hidden and unfinished files, names that are no keys, foreign hands."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.folder import FolderStore
from listener.stores.folder_files import is_ignored
from manifests.errors import ObjectDenied, StoreDenied, UnusableKey

NAMES = ("a b", "it's", "p|q", "a+b", "100%20", "h#h", "q?&=", "[x]*", "😀", "c:d", "\\back", '<>"`')


async def everything(store: FolderStore, prefix: str = "") -> dict[str, ObjectMeta | UnlistableKey]:
    return {item.key: item async for item in store.list("drop", prefix)}


async def test_a_key_is_exactly_the_name_users_see(folder_store: FolderStore) -> None:
    for name in NAMES:
        await folder_store.write("drop", name, name.encode(), content_type="")
        (folder_store.root / f"by hand {name}").write_bytes(b"1")
    shown = {path.name for path in folder_store.root.iterdir() if not path.name.startswith(".")}
    assert shown == {*NAMES, *(f"by hand {name}" for name in NAMES)}
    assert set(await everything(folder_store)) == shown
    assert (folder_store.root / "a+b").read_bytes() == b"a+b"


async def test_hidden_and_unfinished_files_are_not_listed_but_can_be_read(folder_store: FolderStore) -> None:
    hidden = (".hidden", "a/.trash/b.mp3", "a/song.mp3.part", "b.mp3.crdownload", "c.yaml~", ".d.swp", "E.TMP")
    for key in ("a/song.mp3", "_gpudrop.yaml", "partial.mp3", "tmp/a.mp3", *hidden):
        await folder_store.write("drop", key, b"1", content_type="")
        assert is_ignored(key) == (key in hidden)
    assert set(await everything(folder_store)) == {"a/song.mp3", "_gpudrop.yaml", "partial.mp3", "tmp/a.mp3"}
    assert await everything(folder_store, "a/.trash/") == {}
    assert await folder_store.read("drop", ".hidden", max_bytes=9) == b"1"


async def test_the_private_folder_is_out_of_reach(folder_store: FolderStore) -> None:
    state = folder_store.root / ".gpudrop" / "state.sqlite"
    state.parent.mkdir()
    state.write_bytes(b"secret")
    (folder_store.root / "link").symlink_to(state)
    key = ".gpudrop/state.sqlite"
    assert await folder_store.head("drop", key) is None
    assert await folder_store.read("drop", key, max_bytes=99) is None
    await folder_store.delete("drop", key)
    assert state.exists()
    with pytest.raises(UnusableKey):
        await folder_store.write("drop", key, b"", content_type="")
    with pytest.raises(UnusableKey):
        await folder_store.sign("GET", "drop", key, expires_s=1)
    with pytest.raises(StoreDenied):
        await folder_store.read("drop", "link", max_bytes=99)


async def test_links_are_followed_inside_and_refused_outside(folder_store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp3").write_bytes(b"secret")
    root = folder_store.root
    (root / "real.mp3").write_bytes(b"real")
    (root / "inside.mp3").symlink_to(root / "real.mp3")
    (root / "escape.mp3").symlink_to(outside / "secret.mp3")
    (root / "dots.mp3").symlink_to("../outside/secret.mp3")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("gone")
    found = await everything(folder_store)
    assert {key for key, item in found.items() if isinstance(item, ObjectMeta)} == {"real.mp3", "inside.mp3"}
    assert {"escape.mp3", "dots.mp3", "folder"} <= {
        key for key, item in found.items() if isinstance(item, UnlistableKey)
    }
    assert await folder_store.read("drop", "inside.mp3", max_bytes=9) == b"real"
    assert await folder_store.head("drop", "dangling") is None
    for key in ("escape.mp3", "dots.mp3", "folder/secret.mp3"):
        with pytest.raises(StoreDenied, match="out of the folder"):
            await folder_store.head("drop", key)
        with pytest.raises(StoreDenied, match="out of the folder"):
            await folder_store.read("drop", key, max_bytes=99)
        with pytest.raises(StoreDenied, match="out of the folder"):
            await folder_store.sign("GET", "drop", key, expires_s=1)
    with pytest.raises(StoreDenied, match="out of the folder"):
        await everything(folder_store, "folder/")
    for work in (
        folder_store.write("drop", "folder/new.mp3", b"1", content_type=""),
        folder_store.sign("PUT", "drop", "folder/new.mp3", expires_s=1),
        folder_store.delete("drop", "folder/secret.mp3"),
    ):
        with pytest.raises(StoreDenied, match="out of the folder"):
            await work
    assert sorted(path.name for path in outside.iterdir()) == ["secret.mp3"]


async def test_writing_and_deleting_a_link_leave_its_target_alone(folder_store: FolderStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    link = folder_store.root / "link"
    link.symlink_to(target)
    await folder_store.write("drop", "link", b"new", content_type="")
    assert not link.is_symlink()
    assert target.read_bytes() == b"kept"
    link.unlink()
    link.symlink_to(target)
    await folder_store.delete("drop", "link")
    assert not link.is_symlink()
    assert target.read_bytes() == b"kept"


async def test_no_odd_name_ends_a_listing(folder_store: FolderStore) -> None:
    for name in (b"a.mp3", b"new\nline", b"latin\xe9", b"z.mp3"):
        (folder_store.root / os.fsdecode(name)).write_bytes(b"1")
    os.mkfifo(folder_store.root / "pipe")
    found = await everything(folder_store)
    assert {key: type(item) for key, item in found.items()} == {
        "a.mp3": ObjectMeta,
        "new\nline": UnlistableKey,
        "latin\\xe9": UnlistableKey,
        "z.mp3": ObjectMeta,
    }
    assert await folder_store.head("drop", "pipe") is None
    assert await folder_store.read("drop", "pipe", max_bytes=9) is None


async def test_an_edit_in_place_is_another_version(folder_store: FolderStore) -> None:
    written = await folder_store.write("drop", "a.txt", b"12345", content_type="")
    path = folder_store.root / "a.txt"
    path.write_bytes(b"54321")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    head = await folder_store.head("drop", "a.txt")
    assert head is not None
    assert head.version != written.version


async def test_files_have_ordinary_permissions_and_nothing_temporary_stays(folder_store: FolderStore) -> None:
    await folder_store.write("drop", "new/folder/a.txt", b"1", content_type="")
    plain = folder_store.root / "plain"
    plain.write_bytes(b"")
    mode = stat.S_IMODE((folder_store.root / "new/folder/a.txt").stat().st_mode)
    assert mode == stat.S_IMODE(plain.stat().st_mode)
    assert list((folder_store.root / ".gpudrop" / "tmp").iterdir()) == []


async def test_a_name_taken_by_a_folder_is_told(folder_store: FolderStore) -> None:
    await folder_store.write("drop", "a/b.txt", b"1", content_type="")
    for key in ("a", "a/b.txt/c.txt", "x" * 300):
        with pytest.raises(UnusableKey):
            await folder_store.write("drop", key, b"1", content_type="")
    assert list((folder_store.root / ".gpudrop" / "tmp").iterdir()) == []


async def test_check_tells_a_missing_root_and_sweeps_what_a_crash_left(folder_store: FolderStore) -> None:
    assert await folder_store.check() == {}
    left = folder_store.root / ".gpudrop" / "tmp" / "left.part"
    left.write_bytes(b"1")
    assert await folder_store.check() == {}
    assert left.exists()
    os.utime(left, (1, 1))
    assert await folder_store.check() == {}
    assert not left.exists()
    shutil.rmtree(folder_store.root)
    problem = (await folder_store.check())["drop"]
    assert "does not exist" in problem
    assert "store.root" in problem
    with pytest.raises(StoreDenied, match="does not exist"):
        await folder_store.write("drop", "a", b"", content_type="")
    with pytest.raises(StoreDenied, match="does not exist"):
        await everything(folder_store)
    assert not folder_store.root.exists()


async def test_what_can_never_be_written_is_told_and_nothing_is_made(folder_store: FolderStore, tmp_path: Path) -> None:
    root = folder_store.root
    (root / "file").write_bytes(b"1")
    (root / "folder").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to("folder")
    for key in ("new", "file", "new/a/b", "folder/x", "in/x", "n" * 255, "folder/" + "n" * 255):
        await folder_store.check_writable("drop", key)
    for key in ("n" * 256, "ü" * 128, "new/" + "n" * 256, "n" * 256 + "/x", "file/x", "folder", ".gpudrop/x"):
        with pytest.raises(UnusableKey):
            await folder_store.check_writable("drop", key)
    for key in ("out/x", "out/new/x"):
        with pytest.raises(ObjectDenied):
            await folder_store.check_writable("drop", key)
    assert {path.name for path in root.iterdir()} == {"file", "folder", "out", "in"}


async def test_a_link_that_leads_out_is_no_object_to_replace(folder_store: FolderStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    (folder_store.root / "link").symlink_to(target)
    assert await folder_store.replace("drop", "link", b"other", content_type="", expected="x") is None
    assert await folder_store.replace("drop", "link", b"new", content_type="", expected=None)
    assert (folder_store.root / "link").read_bytes() == b"new"
    assert target.read_bytes() == b"kept"


async def test_a_link_in_place_of_the_own_folder_is_told(folder_store: FolderStore, tmp_path: Path) -> None:
    (folder_store.root / ".gpudrop").symlink_to(tmp_path)
    with pytest.raises(StoreDenied, match="no folder of gpudrop's"):
        await folder_store.write("drop", "a", b"1", content_type="")
    assert "no folder of gpudrop's" in (await folder_store.check())["drop"]
    assert not (tmp_path / "tmp").exists()
