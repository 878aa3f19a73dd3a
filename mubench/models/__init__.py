"""Models: made, read, kept, and how a task's kind of model behaves."""
