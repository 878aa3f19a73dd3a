"""Research built on the board: ablations, claims, bias, figures, the paper."""
