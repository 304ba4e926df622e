"""How the adapters' examples are proved: the trained job drawn again, and what each kind of adapter must show."""
