"""The micro world: what it shows, how its pictures are made, where its drawings come from."""
