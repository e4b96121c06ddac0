"""Video operations on ffmpeg.

Composition, once per process:

    ffmpeg = FFmpeg(find_ffmpeg(preferred))           # video.ffmpeg; preferred: GPUDROP_FFMPEG or None
    encoder = Encoder(ffmpeg)                         # video.encoder; probes NVENC once, on first use
    caption = BurnOrMux(ffmpeg, encoder)              # video.caption: CaptionParams -> Videos
    img2vid = ImagesToVideo(ffmpeg, encoder)          # video.img2vid: Img2VidParams -> Videos
    addaudio = ReplaceAudio(ffmpeg, encoder)          # video.addaudio: AddAudioParams -> Videos

Each is an `Operation`: `await caption(params, job)`. Cancelling it kills its ffmpeg and waits for its end.

`python -m gpu_dispatch.worker.video.report [FFMPEG]` prints this machine's capabilities as one line of JSON.
"""
