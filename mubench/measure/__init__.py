"""Measuring: predictions, and every metric as a function of them."""
