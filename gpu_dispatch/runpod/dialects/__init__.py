"""What the workers behind an endpoint understand: a task as their job's `input`, their output as a result."""
