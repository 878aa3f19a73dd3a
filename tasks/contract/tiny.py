"""Tiny stand-ins of the paper's models: the very same classes, with the very same processors, small and untrained."""

from dataclasses import replace

from mubench.models import networks


def letters(task):
    """A WordPiece tokenizer of single characters: of all in the task's training texts."""
    import tokenizers

    characters = sorted({letter for text in _texts(task) for letter in text.lower() if not letter.isspace()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *characters, *(f"##{letter}" for letter in characters)]
    tokenizer = tokenizers.BertWordPieceTokenizer(vocab={token: i for i, token in enumerate(vocabulary)})
    return dict(tokenizer_object=tokenizers.Tokenizer.from_str(tokenizer.to_str()))


def byte_pairs(task):
    """A byte-level BPE tokenizer without a single merge."""
    import tokenizers

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
    tokenizer = tokenizers.ByteLevelBPETokenizer({token: i for i, token in enumerate(vocabulary)}, [])
    tokenizer.add_special_tokens(vocabulary[:5])
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return dict(tokenizer_object=tokenizer)


def byte_pairs_after_a_start(task):
    """The same as causal models have it: nothing closes a prompt."""
    from tokenizers.processors import TemplateProcessing

    options = byte_pairs(task)
    options["tokenizer_object"].post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return options | dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>")


def pieces(task):
    """A unigram tokenizer of single characters: of all in the task's training texts."""
    import tokenizers

    characters = sorted({letter for text in _texts(task) for letter in text if not letter.isspace()})
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary = [*special, *((letter, -3.0) for letter in characters)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return dict(tokenizer_object=tokenizer)


def _texts(task):
    """All texts of the task's training rows."""
    from datasets import Value

    rows = task.data["train"]
    return [text for name, kind in rows.features.items() if kind == Value("string") for text in rows[name]]


SIDE = 40  # of pictures, which the samples' are not: resizing is part of the path
WIDE = dict(initializer_range=0.3)  # outputs that differ between examples
LAYERS = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16) | WIDE
TEXT = LAYERS | dict(max_position_embeddings=136)
WAVE = LAYERS | dict(
    conv_dim=[8, 8],
    conv_kernel=[40, 8],
    conv_stride=[40, 8],
    num_conv_pos_embeddings=8,
    classifier_proj_size=16,
    num_conv_pos_embedding_groups=2,
    num_feat_extract_layers=2,
)
SHAPE = {"height": SIDE, "width": SIDE}

# Class of the model → its processors (class → options, or a function of the task that gives them) and its
# configuration.
TINY = {
    "ResNetForImageClassification": (
        {"ConvNextImageProcessor": dict(size={"shortest_edge": SIDE})},
        dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    ),
    "MobileNetV2ForImageClassification": (
        {"MobileNetV2ImageProcessor": dict(size={"shortest_edge": 44}, crop_size=SHAPE)},
        WIDE | dict(image_size=SIDE, depth_multiplier=0.1, depth_divisible_by=4, min_depth=4),
    ),
    "ConvNextForImageClassification": (
        {"ConvNextImageProcessor": dict(size={"shortest_edge": SIDE})},
        WIDE | dict(image_size=SIDE, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]),
    ),
    "ViTForImageClassification": (
        {"ViTImageProcessor": dict(size=SHAPE)},
        LAYERS | dict(image_size=SIDE, patch_size=8),
    ),
    "SwinForImageClassification": (
        {"ViTImageProcessor": dict(size=SHAPE)},
        WIDE | dict(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
    ),
    "BertForSequenceClassification": ({"BertTokenizerFast": letters}, TEXT),
    "ElectraForSequenceClassification": ({"ElectraTokenizerFast": letters}, TEXT | dict(embedding_size=16)),
    "RobertaForSequenceClassification": (
        {"RobertaTokenizerFast": byte_pairs},
        TEXT | dict(pad_token_id=1, bos_token_id=0, eos_token_id=2),
    ),
    "DistilBertForSequenceClassification": (
        {"DistilBertTokenizerFast": letters},
        WIDE | dict(dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=136),
    ),
    "LlamaForCausalLM": (
        {"PreTrainedTokenizerFast": byte_pairs_after_a_start},
        LAYERS | dict(pad_token_id=1, bos_token_id=0, eos_token_id=2),
    ),
    "T5ForConditionalGeneration": (
        {"T5TokenizerFast": pieces},
        dict(
            d_model=16,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
        ),
    ),
    "ViltForImagesAndTextClassification": (
        {"ViltImageProcessor": dict(size={"shortest_edge": SIDE}, size_divisor=16), "BertTokenizerFast": letters},
        TEXT | dict(image_size=SIDE, patch_size=16),
    ),
    "Wav2Vec2ForSequenceClassification": ({"Wav2Vec2FeatureExtractor": {}}, WAVE),
    "HubertForSequenceClassification": ({"Wav2Vec2FeatureExtractor": {}}, WAVE),
    "WhisperForAudioClassification": (
        {"WhisperFeatureExtractor": dict(feature_size=8, chunk_length=2)},
        dict(
            d_model=16,
            encoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=16,
            num_mel_bins=8,
            max_source_positions=100,
            vocab_size=8,
            init_std=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
    ),
    "VideoMAEForVideoClassification": (
        {"VideoMAEImageProcessor": dict(size={"shortest_edge": SIDE}, crop_size=SHAPE)},
        LAYERS | dict(image_size=SIDE, patch_size=8),
    ),
    "UNet2DConditionModel": (
        {},
        dict(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=32,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
    ),
}


def tiny_model(task, name, folder):
    """The `Model` of a tiny stand-in, its weights and its processors written to a folder.

    task: whose model it stands for.
    name: of that model.
    folder: where it is written; the stand-in is pretrained there.
    """
    import torch
    import transformers

    declared, (processors, options) = task.models[name], TINY[task.models[name].architecture]
    options = options | declared.config | task.head_options
    with networks.no_bars():
        for kind, arguments in processors.items():
            kind = f"{kind}Pil" if hasattr(transformers, f"{kind}Pil") else kind  # as `networks.processor` reads it
            processor = getattr(transformers, kind)(**(arguments(task) if callable(arguments) else arguments))
            processor.save_pretrained(folder)
            if hasattr(processor, "vocab"):
                options["vocab_size"] = len(processor)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            networks.make(task.model_class(name), options).save_pretrained(folder, safe_serialization=True)
    return replace(declared, pretrained=str(folder), part="", original="")
