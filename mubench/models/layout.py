"""How pictures lie in memory."""


def channels_last(batch, device, precision="no"):
    """A batch whose pictures, [B, C, H, W], have their channels last in memory where convolutions are faster so: on a
    CPU and in half precision. What a model makes of them follows; values and weights stay as they are.

    batch: name → tensor.
    device, precision: what the model is run on and in (see `make_accelerator`).
    """
    import torch

    if device.type != "cpu" and precision == "no":
        return batch
    pictures = lambda v: isinstance(v, torch.Tensor) and v.ndim == 4 and v.is_floating_point()
    return {name: v.to(memory_format=torch.channels_last) if pictures(v) else v for name, v in batch.items()}
