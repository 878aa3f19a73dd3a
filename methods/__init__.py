"""Unlearning methods, one file each: the file's name is the method's."""

if __name__ != "mubench.methods":
    raise ImportError("import mubench.methods, not a bare 'methods': install the package (pip install -e .) first")
