"""RunPod serverless as a backend.

`endpoint.RunPodEndpoint` is one endpoint as a GpuBackend. All endpoints share one `client.RunPodClient`, one
`poller.PollerServices` and one `webhook.WebhookHints`. `dialects` translates tasks and results for the workers.
"""
