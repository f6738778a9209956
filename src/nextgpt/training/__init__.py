"""Lightning training: the three stages of the chain and the recipes of its parts."""
