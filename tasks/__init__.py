"""Tasks, one folder per modality and in it one file (a data card) per data set: the file's name is the task's."""

if __name__ != "mubench.tasks":
    raise ImportError("import mubench.tasks, not a bare 'tasks': install the package (pip install -e .) first")
