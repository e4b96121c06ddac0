import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.task import AddAudioParams, CaptionParams, GpuResult, Videos
from handlers.addaudio import AddAudioHandler
from handlers.base import Link
from handlers.caption import CaptionHandler
from handlers.img2vid import Img2VidHandler, frame_counts
from handlers.subtitles.parser import parse_subtitles
from manifests.errors import (
    InputMissing,
    InvalidDuration,
    OutputOverwritesInput,
    SubtitlesUnreadable,
    UnusableKey,
    WorkerError,
)
from manifests.models import AddAudio, Caption, Image, Img2Vid

SRT = {"srt": "1\n00:00:01,000 --> 00:00:02,000\nOlá\n".encode("latin-1")}
CAPTION, ADDAUDIO, IMG2VID = CaptionHandler(), AddAudioHandler(), Img2VidHandler()


def images(*durations):
    return tuple(Image(image=f"{i}.JPG", duration=d, id=f"img-{i}") for i, d in enumerate(durations))


def test_caption_lays_out_for_three_shapes_before_any_gpu_is_asked(planning, encoded):
    planned = planning(CAPTION, Caption(video="v.MP4", srt="a.srt", style="box", quality=20), contents=SRT)
    plan = CAPTION.plan(planned)
    (task,) = plan.tasks
    assert isinstance(task.params, CaptionParams)
    assert (task.params.video, task.params.quality, task.params.soft_srt) == ("video.mp4", 20, None)
    assert [(x.width, x.height) for x in task.params.layouts] == [(1920, 1080), (1080, 1920), (1080, 1080)]
    assert all("Olá" in x.ass and f"PlayResX: {x.width}\n" in x.ass for x in task.params.layouts)
    assert [f.name for f in task.inputs] == ["video.mp4"]
    assert [t.key for t in task.outputs] == ["out/talk.captioned.mp4"]
    finished = CAPTION.finish(planned, plan, encoded(plan))
    assert finished.message == "Video caption completed and uploaded to S3 successfully"
    assert finished.response == {"video_url": Link("out/talk.captioned.mp4")}
    assert finished.stats["encoder"] == "h264_nvenc" and finished.stats["device"] == "cuda"


def test_soft_captions_are_clean_srt_with_a_language(planning):
    manifest = Caption(video="v.mp4", srt="a.srt", burn=False, language="pt-BR", output_filename="x")
    (task,) = CAPTION.plan(planning(CAPTION, manifest, contents=SRT)).tasks
    assert (task.params.layouts, task.params.language, task.outputs[0].key) == ((), "pt", "out/x.mp4")
    assert parse_subtitles(task.params.soft_srt.encode()).cues[0].text == "Olá"


def test_unreadable_subtitles_end_the_run_before_it_costs_anything(planning):
    with pytest.raises(SubtitlesUnreadable):
        CAPTION.plan(planning(CAPTION, Caption(video="v.mp4", srt="a.srt"), contents={"srt": b"\x00\x01"}))


def test_addaudio(planning, encoded):
    manifest = AddAudio(video="v.mov", audio="https://example.com/a.mp3", fit="audio", offset=-1.5)
    planned = planning(ADDAUDIO, manifest)
    assert planned.inputs["audio"].size is None
    plan = ADDAUDIO.plan(planned)
    assert plan.tasks[0].params == AddAudioParams(
        video="video.mov", audio="audio.mp3", output="output.mp4", fit="audio", offset=-1.5
    )
    finished = ADDAUDIO.finish(planned, plan, encoded(plan, "copy"))
    assert finished.message == "Video addaudio completed and uploaded to S3 successfully"
    assert finished.response == {"video_url": Link("out/talk.mp4")}


def test_outputs_never_overwrite_inputs(planning):
    for handler, manifest in (
        (ADDAUDIO, AddAudio(video="talk.mp4", audio="a.mp3")),
        (ADDAUDIO, AddAudio(video="v.mp4", audio="s3://media/in/talk.mp4")),
        (CAPTION, Caption(video="v.mp4", srt="a.srt", output_filename="v.mp4")),
    ):
        with pytest.raises(OutputOverwritesInput) as caught:
            handler.plan(planning(handler, manifest, folder="in/", contents=SRT))
        assert caught.value.info.code == "output_overwrites_input" and caught.value.info.hint
        handler.plan(planning(handler, manifest, folder="elsewhere/", contents=SRT))
    with pytest.raises(OutputOverwritesInput):
        IMG2VID.plan(planning(IMG2VID, Img2Vid(images=(Image(image="video_1.mp4", duration=1),)), folder="in/"))


def test_keys_no_store_can_hold_are_refused_before_any_work(planning):
    with pytest.raises(UnusableKey):
        ADDAUDIO.plan(planning(ADDAUDIO, AddAudio(video="v.mp4", audio="a.mp3"), folder="x" * 1020 + "/"))


@given(st.lists(st.integers(50, 700_000).map(lambda n: n / 1000), min_size=1, max_size=200), st.integers(24, 60))
def test_clips_together_are_as_long_as_the_durations_say(durations, fps):
    counts = frame_counts(images(*durations), fps)
    assert min(counts) >= 1
    total = 0.0
    for i, duration in enumerate(durations):
        total += duration
        assert abs(sum(counts[: i + 1]) - total * fps) <= 0.5 + 1e-6


def test_a_hundred_clips_of_6_48_seconds_do_not_drift():
    assert sum(frame_counts(images(*[6.48] * 100), 24)) == (648 * 24)


def test_a_clip_without_a_frame_is_refused():
    with pytest.raises(InvalidDuration) as caught:
        frame_counts(images(1.0, 0.01), 24)
    assert caught.value.info.where == "images[1].duration"


def test_an_image_used_again_is_fetched_once(planning):
    repeated = tuple(Image(image=name, duration=1) for name in ("a.JPG", "b", "a.JPG", "c.tar.gz!"))
    (task,) = IMG2VID.plan(planning(IMG2VID, Img2Vid(images=repeated))).tasks
    assert [f.name for f in task.inputs] == ["img_0001.jpg", "img_0002", "img_0003"]
    assert [(c.image, c.output) for c in task.params.clips] == [
        ("img_0001.jpg", "video_1.mp4"),
        ("img_0002", "video_2.mp4"),
        ("img_0001.jpg", "video_3.mp4"),
        ("img_0003", "video_4.mp4"),
    ]


@pytest.mark.parametrize(("count", "tasks"), [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3), (400, 3)])
def test_long_lists_are_shared_out_evenly_and_merged_in_order(planning, encoded, count, tasks):
    manifest = Img2Vid(images=images(*(1 + i % 7 for i in range(count))))
    planned = planning(IMG2VID, manifest)
    plan = IMG2VID.plan(planned)
    loads = [sum(c.frames for c in task.params.clips) for task in plan.tasks]
    assert len(loads) == tasks and max(loads) - min(loads) <= 7 * 24
    for task in plan.tasks:
        assert {c.image for c in task.params.clips} == {f.name for f in task.inputs}
        assert [c.output for c in task.params.clips] == [t.name for t in task.outputs]
    finished = IMG2VID.finish(planned, plan, encoded(plan))
    assert finished.message == "Images converted to videos and uploaded to S3 successfully"
    assert finished.response["videos"] == tuple(
        {"id": f"img-{i}", "video_url": Link(f"out/video_{i + 1}.mp4"), "filename": f"video_{i + 1}.mp4"}
        for i in range(count)
    )
    assert (finished.stats["total"], finished.stats["processed"]) == (count, count)


def test_an_answer_that_lacks_a_file_is_told(planning):
    planned = planning(IMG2VID, Img2Vid(images=images(1.0)))
    plan = IMG2VID.plan(planned)
    with pytest.raises(WorkerError):
        IMG2VID.finish(planned, plan, (GpuResult("t", Videos((), "libx264")),))


def test_subtitles_that_nobody_read_are_told_as_missing(planning):
    with pytest.raises(InputMissing) as caught:
        CAPTION.plan(planning(CAPTION, Caption(video="v.mp4", srt="https://example.com/a.srt")))
    assert caught.value.info.where == "srt" and "https://example.com/a.srt" in caught.value.info.message
