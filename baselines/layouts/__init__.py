"""How published files of networks are laid out: a file a network, which its card names."""
