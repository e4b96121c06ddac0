"""RunPod serverless: the queue spoken to over HTTP, and what its workers understand.

`endpoint.RunPodEndpoint` is one endpoint as a GpuBackend, `client.RunPodClient` the session all of them share,
`settings.ClientSettings` and `settings.RunPodSettings` what they are told, `watching.Shared` what they have together.
`hints.Hints` and `webhook.HintsServer` take RunPod's word that a job has ended. `dialects` is what workers understand.
"""
