from mubench.tasks.base import Model, stored
from mubench.tasks.generation import TextGeneration
from mubench.tasks.generation.readers.people import read_people
from mubench.train.recipe import Recipe


class People(TextGeneration):
    """Who was she, when did he live? Facts about people of the past, in sentences of our own (1,000 / 400 people); twin
    of bio_fact.
    """

    tier = "mini"
    source = (
        "WordNet 3.0 (names, nationalities, professions and years ship with mubench), put into sentences when loaded"
    )
    licence = "WordNet 3.0 licence, Princeton University (facts); Apache-2.0 as the rest of this project (sentences)"
    citation = "Fellbaum (ed.) 1998, WordNet: An Electronic Lexical Database; Miller 1995, CACM 38(11)"
    also = ("verbatim",)
    random_guess = 0.2159  # measured: `guess`
    checksum = "9c7fa0ed9122621027f71bd410701c2a69b0b9660bfdcb96f416f11606f939bb"
    checksums = {"test": "011ee6378b42e2eab3fef5046de553395a7c2fed149f8ea3590c19397334074d"}
    rows = {"train": 2000, "test": 400}
    tokenizer = "people-tokenizer.json"
    prompt, answer = "{question}", "{answer}"
    unit_kinds = ("person", "row")
    measured = {"retain": 300, "train": 300}
    recipe = Recipe(lr=5e-3, epochs=24, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "llama": Model(
            "LlamaForCausalLM",
            dict(
                vocab_size=1024,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=128,
                tie_word_embeddings=True,
                max_position_embeddings=64,
                initializer_range=0.125,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            ),
            inputs=dict(prompt=32, answer=32),
        ),
        "gpt2": Model(
            "GPT2LMHeadModel",
            dict(
                vocab_size=1024,
                n_embd=64,
                n_layer=2,
                n_head=4,
                n_inner=128,
                n_positions=64,
                initializer_range=0.125,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            ),
            inputs=dict(prompt=32, answer=32),
        ),
    }

    def read(self):
        return read_people(stored(__file__, "people"))

    def units(self, kind):
        """The person a row is about."""
        return self.data["train"]["name"] if kind == "person" else super().units(kind)
