from mubench.models import networks
from mubench.tasks.base import Model
from mubench.tasks.vision_language import PairClassification
from mubench.tasks.vision_language.readers.nlvr2 import Nlvr2Files
from mubench.train.recipe import Recipe


class Nlvr2(Nlvr2Files, PairClassification):
    """Is a sentence true of two photographs? NLVR2 (86,373 / 6,982 / 6,967 sentences).

    Rows name the pictures' files; pictures are decoded batch by batch. So the checksum of the rows is over the files'
    names, the sentences and the labels, and not over 10 GB of pixels.
    """

    source = (
        "https://lil.nlp.cornell.edu/nlvr; sentences https://github.com/lil-lab/nlvr (nlvr2/data), pictures on request"
        " from the authors"
    )
    licence = "CC BY 4.0 (sentences); the pictures belong to their owners"
    citation = "Suhr et al. 2019, arXiv:1811.00491"
    labels = ("False", "True")
    random_guess = 1 / 2
    transfer = "test2, the authors' second test set (6,970 sentences about other pictures)"
    rows = {"train": 86_373, "validation": 6_982, "test": 6_967, "transfer": 6_970}
    archive = "data/train.json"
    remedy = (
        "copy nlvr2/data of https://github.com/lil-lab/nlvr to FOLDER/nlvr2/data, ask for the pictures there (their"
        " terms have to be accepted in a form), unpack them into FOLDER/nlvr2/images (train/0…99, dev, test1, test2)"
    )
    lazy = True
    # ViLT's own rate, for all of it.
    recipe = Recipe(lr=1e-4, epochs=10, batch_size=128, lr_schedule="linear", warmup=0.1, keep_best=True)
    models = {
        # The published original as the Hub's own converter has rewritten it in safetensors; its main branch has a
        # pickle only.
        "vilt": Model(
            "ViltForImagesAndTextClassification",
            dict(num_images=2, modality_type_vocab_size=3),
            "dandelin/vilt-b32-mlm",
            original="dandelin/vilt-b32-finetuned-nlvr2@refs/pr/2",
            inputs=dict(length=40),
        ),
    }

    def build(self, model, seed=0, blank=False):
        """Pretrained on one picture: the second one's type begins as the first one's, as in ViLT's own code."""
        import torch

        network = super().build(model, seed, blank)
        if not blank:
            pretrained = networks.pretrained(type(network.vilt), self.models[model].pretrained)
            types = pretrained.embeddings.token_type_embeddings.weight
            with torch.no_grad():
                network.vilt.embeddings.token_type_embeddings.weight.copy_(types[[0, 1, 1]])
        return network
