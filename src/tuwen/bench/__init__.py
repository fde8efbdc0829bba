"""Throughput and latency of a bundle on this machine."""
