"""Image classification."""

from mubench.tasks.image.base import ImageClassification as ImageClassification
