"""RunPod's endpoints and templates, made what config.yaml says: wishes, a pure plan, and its carrying out."""
