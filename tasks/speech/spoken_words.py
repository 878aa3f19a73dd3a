from mubench.tasks.base import Model, stored
from mubench.tasks.speech import SpeechClassification
from mubench.train.recipe import Recipe


class SpokenWords(SpeechClassification):
    """Ten command words spoken by a synthesiser in many voices (3,000 / 600 clips, voices disjoint); twin of
    speech_commands.
    """

    tier = "mini"
    source = "generated with eSpeak NG by `python -m mubench.tasks.speech.makers.spoken_words` (ships with mubench)"
    licence = "output of eSpeak NG, which is not part of mubench; Apache-2.0 as the rest of this project"
    labels = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
    random_guess = 1 / 10
    transfer = "300 clips in six odd voices (whispered, croaking, …) heard nowhere else, in louder noise"
    checksum = "8f422a06d359879822aec815545741e8090eef7173a55222c851934542bbaf85"
    checksums = {
        "test": "c0bd617a3f9adc9847b504e8f9141400442b2bb605d9a9ebba3523dab7936ec9",
        "transfer": "d30e402cbe35b4bc87d6db649e8b5b6af98b645e1602e042433c4fbf1275f6d9",
    }
    rows = {"train": 3000, "test": 600, "transfer": 300}
    recipe = Recipe(lr=2e-3, epochs=10, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "whisper": Model(
            "WhisperForAudioClassification",
            dict(
                vocab_size=8,
                num_mel_bins=40,
                d_model=64,
                encoder_layers=3,
                encoder_attention_heads=4,
                encoder_ffn_dim=256,
                decoder_layers=1,
                decoder_attention_heads=4,
                decoder_ffn_dim=64,
                max_source_positions=25,
                max_target_positions=8,
                dropout=0.0,
                attention_dropout=0.0,
                activation_dropout=0.0,
                encoder_layerdrop=0.0,
                mask_time_prob=0.0,
                classifier_proj_size=64,
                init_std=0.08,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            ),
            inputs=dict(
                extractor="WhisperFeatureExtractor", options=dict(feature_size=40, hop_length=320, chunk_length=1)
            ),
        ),
        "wav2vec2": Model(
            "Wav2Vec2ForSequenceClassification",
            dict(
                vocab_size=32,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=256,
                conv_dim=[32, 64, 64],
                conv_kernel=[80, 8, 4],
                conv_stride=[40, 4, 4],
                conv_bias=True,
                feat_extract_norm="layer",
                do_stable_layer_norm=True,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
                classifier_proj_size=64,
                hidden_dropout=0.0,
                activation_dropout=0.0,
                attention_dropout=0.0,
                feat_proj_dropout=0.0,
                final_dropout=0.0,
                layerdrop=0.0,
                mask_time_prob=0.0,
                mask_feature_prob=0.0,
                initializer_range=0.08,
            ),
            inputs=dict(extractor="Wav2Vec2FeatureExtractor"),
        ),
    }
    noise = {"train": (0, -3.5, -1.7), "test": (1, -3.5, -1.7), "transfer": (2, -2.5, -1.3)}

    def read(self):
        data = stored(__file__, "spoken_words")
        for name, rows in data.items():
            data[name] = rows.add_column("noise", [list(self.noise[name])] * len(rows))
        return data
