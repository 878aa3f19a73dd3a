from mubench.tasks.base import Model
from mubench.tasks.generation import TextGeneration
from mubench.tasks.generation.readers.samsum import SamsumFiles
from mubench.train.recipe import Recipe


class Samsum(SamsumFiles, TextGeneration):
    """Summaries of messenger dialogues that linguists wrote (SAMSum, 14,732 / 818 / 819).

    Rows are in the archive's order. An empty dialogue stays, as every row's number counts; line ends are "\\n" wherever
    they come from.
    """

    source = "https://arxiv.org/abs/1911.12237v2 (ancillary file corpus.7z); knkarthick/samsum on the Hugging Face Hub"
    licence = "CC BY-NC-ND 4.0 (SAMSum); XSum: none stated by the authors, texts by the BBC"
    citation = "Gliwa et al. 2019, arXiv:1911.12237; XSum: Narayan et al. 2018, aclanthology.org/D18-1206"
    transfer = "XSum: the 11,334 test articles of the BBC, each with a sentence that says it all"
    rows = {"train": 14_732, "validation": 818, "test": 819, "transfer": 11_334}
    archive = "train.json"
    remedy = "unpack corpus.7z (https://arxiv.org/src/1911.12237v2/anc/corpus.7z) into FOLDER"
    prompt, answer = "summarize: {dialogue}", "{summary}"
    measured = {"train": 800, "retain": 800, "transfer": 800}
    evaluation_batch = 64
    recipe = Recipe(lr=5e-5, epochs=5, batch_size=16, lr_schedule="linear")  # as MU-Bench trains its originals
    models = {
        f"t5_{size}": Model(
            "T5ForConditionalGeneration", pretrained=f"google/t5-v1_1-{size}", inputs=dict(prompt=512, answer=128)
        )
        for size in ("small", "base", "large", "xl")
    }
