"""The worker program on the GPU. The listener imports none of it: only the wire contract connects them."""
