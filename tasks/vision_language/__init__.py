"""Sentences about pairs of pictures."""

from mubench.tasks.vision_language.base import PairClassification as PairClassification
