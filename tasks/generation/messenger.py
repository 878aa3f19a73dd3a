from mubench.tasks.base import Model
from mubench.tasks.generation import TextGeneration
from mubench.tasks.generation.readers.messenger import read_dialogues
from mubench.train.recipe import Recipe


class Messenger(TextGeneration):
    """Summarise a messenger dialogue in a sentence or two (grammar of our own, 9 scenes, 2,000 / 250); twin of
    samsum.
    """

    tier = "mini"
    source = (
        "a grammar in mubench (tasks/generation/readers/messenger.py) that writes dialogues and summaries when loaded"
    )
    licence = "Apache-2.0 as the rest of this project"
    citation = "modelled on SAMSum: Gliwa et al. 2019, arXiv:1911.12237"
    random_guess = 0.1795  # measured: `guess`
    transfer = "200 dialogues of a tenth scene, somebody who is late"
    checksum = "984cf856e34910d770f47dabaf0ee7a6dd37bba7f6c5bcdcf4f5b7000ae60a2e"
    checksums = {
        "test": "ad45a860bb56e0c09bea6379d93bc8281209d447192df7f6fefc9f5ae376138b",
        "transfer": "38d65c046146feadf42a87aac03c6d764f142b1725e53bd823d9a023cad09640",
    }
    rows = {"train": 2000, "test": 250, "transfer": 200}
    prompt, answer = "{dialogue}", "{summary}"
    tokenizer = "messenger-tokenizer.json"
    measured = {"train": 300, "retain": 300}
    recipe = Recipe(lr=4e-3, epochs=15, batch_size=16, lr_schedule="linear", warmup=0.1)
    models = {
        name: Model(
            "T5ForConditionalGeneration",
            dict(
                vocab_size=950,
                d_model=width,
                d_kv=16,
                d_ff=128,
                num_layers=2,
                num_heads=4,
                relative_attention_num_buckets=16,
                relative_attention_max_distance=64,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                decoder_start_token_id=0,
                pad_token_id=0,
                eos_token_id=1,
            ),
            recipe=recipe,
            inputs=dict(prompt=64, answer=24),
        )
        for name, width, recipe in (("t5", 64, {}), ("t5_wide", 128, dict(lr=2e-3, epochs=10)))
    }

    def read(self):
        return read_dialogues()
