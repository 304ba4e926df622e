"""The kinds of network: one file each, all with the contract of `toolkit.networks.part`."""
