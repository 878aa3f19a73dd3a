"""What pixels are normalised by."""


def pixel_range(mean, std):
    """(black, white): the pixels 0 and 1 as (pixel − mean) / std.

    mean, std: a number, or one per channel.
    """
    mean, std = per_channel(mean, std)
    return -mean / std, (1 - mean) / std


def per_channel(mean, std, device="cpu"):
    """The mean and the std of pixels, a number or one per channel each, as tensors that fit pictures."""
    import torch

    with torch.inference_mode(False):  # whoever keeps them may need gradients later
        return tuple(torch.tensor(numbers, device=device).reshape(-1, 1, 1) for numbers in (mean, std))
