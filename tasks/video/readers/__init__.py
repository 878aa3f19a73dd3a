"""Readers: where the rows of this modality's data sets come from, and how samples in a published format are written."""
