"""Text classification."""

from mubench.tasks.text.base import TextClassification as TextClassification, Tokenized as Tokenized
