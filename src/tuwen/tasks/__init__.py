"""WHAT A USER DOES: the same word in the command line, over HTTP and in Python."""
