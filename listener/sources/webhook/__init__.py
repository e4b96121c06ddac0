"""An HTTP receiver of bucket events: stores post, this answers once what they told is durable."""
