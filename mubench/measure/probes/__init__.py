"""Probes: what is done to an unlearned model after its training; each gives predictions."""
