"""One folder a defence; the contract that all of them keep is in `base.py`."""
