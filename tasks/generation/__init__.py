"""Generation of text and of pictures."""

from mubench.tasks.generation.base import TextGeneration as TextGeneration
from mubench.tasks.generation.diffusion import ImageGeneration as ImageGeneration
