"""Found networks against hand-made ones of several families, trained from scratch with one recipe."""
