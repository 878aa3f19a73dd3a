"""Speech classification."""

from mubench.tasks.speech.base import SpeechClassification as SpeechClassification
