"""Trains what scores drawn digits, on the training pictures and their prompts alone: a small CLIP and a small
classifier.

    python -m mubench.tasks.generation.makers.scorers digit_pictures FOLDER

writes FOLDER/{task}-clip and FOLDER/{task}-classifier and prints their accuracy on the test pictures.
"""

import sys
from pathlib import Path

SIZE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2)
SCALE = 10.0  # fixed, so that cosines themselves must tell matching from other prompts


def make_tokenizer(prompts):
    """A tokenizer of whole words, [BOS] … [EOS], padded to the longest prompt."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for prompt in prompts for word in prompt.split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[EOS]", "[BOS]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 1)]
    )
    longest = max(len(prompt.split()) for prompt in prompts) + 2
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", model_max_length=longest
    )


def make_clip(tokenizer, side, channels):
    from transformers import CLIPConfig, CLIPModel

    text = SIZE | dict(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=32,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    vision = SIZE | dict(image_size=side, patch_size=2, num_channels=channels, projection_dim=32)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))


def make_classifier(labels, channels):
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(
            num_channels=channels,
            embedding_size=16,
            hidden_sizes=[16, 32, 64],
            depths=[1, 1, 1],
            layer_type="basic",
            num_labels=labels,
        )
    )


def train(model, loss, count, epochs, lr=3e-3, batch=64):
    """AdamW at a rate that falls to 0; ``loss``: positions → a scalar."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * -(-count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for positions in torch.randperm(count).split(batch):
            optimizer.zero_grad()
            loss(positions).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def main(task, folder):
    import torch
    from torch.nn.functional import cross_entropy, normalize

    def shown(name):
        columns = task.prepared(next(iter(task.models)), name).columns
        return columns["latents"], columns["labels"]

    torch.manual_seed(0)
    pictures, labels = shown("train")
    count, channels, side, _ = pictures.shape
    tokenizer = make_tokenizer(task.prompts)
    tokens = tokenizer(task.prompts[1:], padding="max_length", return_tensors="pt").input_ids.unflatten(
        0, (task.num_labels, -1)
    )

    clip = make_clip(tokenizer, side, channels)
    clip.logit_scale.requires_grad_(False).fill_(torch.tensor(SCALE).log())

    def cosines(pixels, ids):
        seen = clip.visual_projection(clip.vision_model(pixels).pooler_output)
        said = clip.text_projection(clip.text_model(ids).pooler_output)
        return normalize(seen, dim=-1) @ normalize(said, dim=-1).T

    def contrast(positions):
        template = torch.randint(tokens.shape[1], (len(tokens),))
        noisy = pictures[positions] + 0.2 * torch.randn_like(pictures[positions])
        return cross_entropy(SCALE * cosines(noisy, tokens[torch.arange(len(tokens)), template]), labels[positions])

    train(clip, contrast, count, epochs=50)
    classifier = make_classifier(task.num_labels, channels)
    train(
        classifier,
        lambda positions: cross_entropy(classifier(pictures[positions]).logits, labels[positions]),
        count,
        epochs=25,
    )

    pictures, labels = shown("test")
    with torch.no_grad():
        found = {
            "clip": cosines(pictures, tokens[:, 0]).argmax(-1),
            "classifier": classifier(pictures).logits.argmax(-1),
        }
    for name, model in (("clip", clip), ("classifier", classifier)):
        model.save_pretrained(Path(folder) / f"{task.name}-{name}", safe_serialization=True)
        print(
            f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters,"
            f" {(found[name] == labels).double().mean():.4f} on the test pictures"
        )
    tokenizer.save_pretrained(Path(folder) / f"{task.name}-clip")


if __name__ == "__main__":
    from mubench.registry import load_task

    main(load_task(sys.argv[1]), sys.argv[2])
