"""Makers: what wrote the files in ``data/``. No user of mubench needs them."""
