"""What `mubench.tasks.base.Task` is made of: data, prepared sets, models and samples."""
