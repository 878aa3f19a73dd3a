"""Records: the result of a run, where results are kept, and what they ran on."""
