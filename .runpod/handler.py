"""RunPod's Hub looks for a file of this name; the image starts `python -m gpu_dispatch.worker`, which is the same."""

from gpu_dispatch.worker.__main__ import main

if __name__ == "__main__":
    main()
