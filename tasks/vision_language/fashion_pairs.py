from mubench.tasks.base import Model
from mubench.tasks.vision_language import PairClassification
from mubench.tasks.vision_language.readers.fashion_pairs import read_pairs
from mubench.train.recipe import Recipe


class FashionPairs(PairClassification):
    """Is a sentence true of two pictures? Pairs of Fashion-MNIST pictures (6,000 / 600, 6 classes, balanced); twin of
    nlvr2.

    Training pictures recur in several pairs, as NLVR2's do. So a model retrained without a pair has still seen its
    pictures, and knows forgotten pairs better than test pairs, whose pictures nobody has seen.
    """

    tier = "mini"
    source = (
        "the pictures of task fashion (ship with mubench), paired and described by templates of our own when loaded"
    )
    licence = "MIT, Zalando SE (pictures); Apache-2.0 as the rest of this project (sentences)"
    citation = "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747"
    labels = ("false", "true")
    random_guess = 1 / 2
    transfer = "600 pairs of the test pictures under noise, blur or contrast loss (as in fashion)"
    checksum = "5feabe99ad8208384626c91a7394ddb765bbc42a3a058772a1f3c8a0d1bc7416"
    checksums = {"test": "635594ddbd3e8f79e77b9f38e11cc2c34e1023c594c12468d5c56351489fa95f"}
    rows = {"train": 6000, "test": 600, "transfer": 600}
    tokenizer = "fashion_pairs-tokenizer.json"
    recipe = Recipe(lr=1e-3, epochs=16, batch_size=32, lr_schedule="linear", warmup=0.1)
    models = {
        "vilt": Model(
            "ViltForImagesAndTextClassification",
            dict(
                num_images=2,
                modality_type_vocab_size=3,
                num_channels=1,
                image_size=32,
                patch_size=16,
                vocab_size=19,
                max_position_embeddings=12,
                hidden_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=128,
                initializer_range=0.12,
            ),
            inputs=dict(length=12, size=32, mean=0.2861, std=0.3544),
        ),
    }

    def read(self):
        return read_pairs({"train": 6000, "test": 600, "transfer": 600}, self.labels)
