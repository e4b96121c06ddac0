"""An HTTP receiver for what stores and SNS post."""
