"""Video operations on ffmpeg.

Composition, once per process:

    ffmpeg = FFmpeg(find_ffmpeg(preferred))           # video.ffmpeg; preferred: GPUDROP_FFMPEG or None
    encoder = Encoder(ffmpeg)                         # video.encoder; probes NVENC once, on first use
    caption = BurnOrMux(ffmpeg, encoder)              # video.caption: CaptionParams -> Videos
    img2vid = KenBurns(ffmpeg, encoder)               # video.img2vid: Img2VidParams -> Videos
    addaudio = ReplaceAudio(ffmpeg, encoder)          # video.addaudio: AddAudioParams -> Videos

Each is an `Operation`: `await caption(params, job)`. Cancelling it kills its ffmpeg and waits for the end.

`python -m gpu_dispatch.worker.video.report [FFMPEG]` prints what this machine can do, one line of JSON.
"""
