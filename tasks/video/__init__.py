"""Video classification."""

from mubench.tasks.video.base import VideoClassification as VideoClassification
