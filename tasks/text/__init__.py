"""Text classification."""

from mubench.tasks.text.base import TextClassification as TextClassification
from mubench.tasks.text.base import Tokenized as Tokenized
