"""Text-to-image generation."""

from mubench.tasks.generation.diffusion.task import ImageGeneration as ImageGeneration
