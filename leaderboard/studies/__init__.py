"""Research built on the board.

Ablations: `ablations` runs and analyses, `kinds` is the table of them, `coverage` says which runs one is made of,
`points` and `panels` make the figure, `capacity`, `laws`, `bias` and `findings` what follows from it.
The paper: `claims` lists its claims, `comparisons` and `verdicts` judge them, `paper` makes its tables and figures.
"""
