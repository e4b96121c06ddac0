"""The program on the GPU. Nothing here is imported by the listener: only the wire contract connects them."""
