"""The HTTP service: an index and its model behind an API, with a page to search it."""
