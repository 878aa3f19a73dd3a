"""File names for any text: of tasks, methods and submissions."""

import hashlib
import re


def slug(text):
    """Letters, digits and dashes, and a hash where something was left out."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
    same = plain.replace("-", "_") == text.lower().replace("-", "_")
    return plain if same else f"{plain}-{_hash(text)}"


def slugs(texts):
    """One for each text, all different."""
    found = [slug(text) for text in texts]
    return [
        name if found.count(name) == 1 else f"{name}-{_hash(text)}" for name, text in zip(found, texts, strict=True)
    ]


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:6]
