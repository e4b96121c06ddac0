"""Makes RunPod's endpoints and templates match config.yaml: the desired state, a pure plan, its execution."""
