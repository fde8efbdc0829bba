"""The HTTP client: searches, classifies, encodes, adds and removes through a running service."""
