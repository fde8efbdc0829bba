"""WHAT IS ON DISK: the one artefact that carries every fact about a model. Never touches torch."""
