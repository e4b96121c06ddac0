"""A changed configuration takes effect while everything runs; a broken one changes nothing."""

from __future__ import annotations

from support.installation import SAMPLES, Installation

CLIP = (SAMPLES / "media" / "clip.mp4").read_bytes()
SOFT = {
    "name": "soft",
    "pattern": "*.mp4",
    "exclude": "*.captioned.mp4",
    "manifest": {"operation": "caption", "srt": "/cues.srt", "burn": False},
}


def test_triggers_are_reloaded(folder_install: Installation) -> None:
    install = folder_install
    install.drops.put("cues.srt", (SAMPLES / "media" / "clip.srt").read_bytes())
    install.start(triggers=[])
    install.config["triggers"] = [{**SOFT, "manifest": {"operation": "captoin"}}]
    install.write_config()
    install.until(lambda: install.logged("config_not_reloaded"))
    install.config["triggers"] = [SOFT]
    install.write_config()
    install.until(lambda: install.logged("triggers_reloaded"))
    install.drops.put("one.mp4", CLIP)
    install.done("one.mp4")


def test_a_bad_template_is_told_at_the_start(folder_install: Installation) -> None:
    folder_install.config["triggers"] = [{**SOFT, "manifest": {"operation": "caption", "srtt": "/cues.srt"}}]
    folder_install.write_config()
    done = folder_install.command("run")
    assert done.returncode == 1
    assert "triggers.soft" in done.stderr
    assert "Traceback" not in done.stderr
