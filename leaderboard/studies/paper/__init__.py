"""The MU-Bench paper again, from records: its tables, its figures and its claims, one file each."""
