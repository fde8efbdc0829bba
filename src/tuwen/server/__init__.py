"""HTTP: an encoder and an index as a service. Knows requests and answers; what is done stands in `tasks`."""
