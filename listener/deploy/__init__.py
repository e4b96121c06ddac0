"""RunPod's endpoints and templates, made what config.yaml says: the desired state, a pure plan, its execution."""
