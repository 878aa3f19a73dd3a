"""How far a stranger's numbers may be believed. Nothing of theirs is unpickled, imported or run.

What a stranger sends

* `limits`: the most that is read of it.
* `untrusted`: bytes, JSON and text read with suspicion.
* `schema`: what a record (result.json) may hold.
* `predictions`: what predictions.parquet may hold.
* `reading`: a result as its files prove it.
* `description`: what submission.json may hold.
* `layout`: which files a submission holds, and where.
* `archive`: how a .zip is unpacked.

What is done with it, a level each

* `suite`: recomputed; facts, split, examples and targets are compared with the suite's.
* `columns`: recomputed; the columns of predictions are compared with each other.
* `re_evaluation`: re-evaluated; predictions are made again from the weights.
* `reproduction`: reproduced; the run is done again from its spec.
* `levels`: the levels, and verified.json, which records them.
* `judge`: the level of one result.

What is said of it

* `flags`: what is strange about runs.
* `one_method`: why results are not one submission.
* `unranked`: what runs lack to be ranked rows.
* `packing`: how results become a submission, and where it goes.
"""
