"""RunPod on this machine: the provider's queue with every fault it is known for, and real SDK workers behind it."""
